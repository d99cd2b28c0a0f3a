import pytest
from pack.iamg.prompt_text import clean_text, escape_prompt

pytestmark = pytest.mark.comfy

TEXTS = [
    "Toy Story (1995)",
    "((a))",
    "unbalanced ) (",
    "embedding:foo",
    "x embedding: y",
    "embedding:embedding:foo",
    "(embedding:x)",
    "embedding:)",
    "a\\(b",
    "a\\",
    "(a\\)b)",
    "\\\\((",
    "{a|b}",
    "(:1.3)",
    "(word:1.3)",
    "<|endoftext|> a \0\1 b \0\2",
    "Amélie 🎉 “quoted” don’t",
    "日本語 (括弧)",
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from comfy.sd1_clip import SDTokenizer

    return SDTokenizer(embedding_directory=str(tmp_path_factory.mktemp("embeddings")))


@pytest.mark.parametrize("text", TEXTS)
def test_comfyui_reads_an_escaped_text_as_its_plain_clip_tokens(tokenizer, text):
    text = clean_text(text)
    (window,) = tokenizer.tokenize_with_weights(escape_prompt(text))
    tokens, weights = zip(*window, strict=True)
    plain = tokenizer.tokenizer(text)["input_ids"]
    assert list(tokens[: len(plain)]) == plain
    assert set(weights) == {1.0}


@pytest.mark.parametrize("text", TEXTS)
def test_comfyui_s_tokens_are_those_of_openai_s_clip(tokenizer, text):
    reference = pytest.importorskip("open_clip.tokenizer").SimpleTokenizer()
    text = clean_text(text)
    (window,) = tokenizer.tokenize_with_weights(escape_prompt(text))
    expected = reference.encode(text)
    assert [token for token, _ in window[1 : len(expected) + 2]] == [*expected, tokenizer.end_token]


def test_unescaped_the_same_text_would_be_read_as_a_weight(tokenizer):
    (window,) = tokenizer.tokenize_with_weights("Toy Story (1995)")
    assert {weight for _, weight in window} != {1.0}
