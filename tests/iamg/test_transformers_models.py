"""Models in transformers' own architectures, a few layers each, and the folders that they lie in."""

import gc
import json
import pickle
import shutil
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_language_models import END, START, teach, write_llama, write_llava, write_qwen2_vl
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from iamg.scenarios import load_scenarios
from iamg.tagging import Host, ItemTags, TaggerModels, make_tagger
from iamg.tagging import transformers_models as subject
from iamg.tagging.asking import Question
from iamg.tagging.transformers_models import TransformersModel, unload_models

ROOT = Path(__file__).parents[2]
POSTER = load_scenarios()["movie poster"]
RED, BLUE = Image.new("RGB", (40, 60), "red"), Image.new("RGB", (64, 48), "blue")
SIZES = [(40, 60), (64, 48), (200, 30), (33, 90), (64, 64)]
WRITERS = {"llava": write_llava, "qwen2_vl": write_qwen2_vl, "llama": write_llama}


def noise(seed, size) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def questions(kind) -> list[Question]:
    """Of differing lengths, with pictures of differing shapes."""
    return [
        Question("tags please " * row, noise(row, size) if kind != "llama" else None, 2)
        for row, size in enumerate(SIZES)
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("models")
    return {kind: write(base / kind) for kind, write in WRITERS.items()}


@pytest.fixture(autouse=True)
def nothing_loaded():
    torch.set_num_threads(1)
    yield
    unload_models()


# ---- answers


@pytest.mark.parametrize("kind", WRITERS)
def test_a_batch_has_the_answers_of_its_questions_alone(folders, kind):
    alone = TransformersModel(folders[kind], batch_size=1).answer(questions(kind))
    assert len(set(alone)) == len(SIZES)
    assert TransformersModel(folders[kind], batch_size=5).answer(questions(kind)) == alone
    assert TransformersModel(folders[kind], batch_size=2).answer(questions(kind)) == alone


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["llava", "qwen2_vl"])
def test_a_picture_is_asked_about_as_the_model_s_own_processor_says(folders, kind):
    processor = AutoProcessor.from_pretrained(folders[kind])
    model = AutoModelForImageTextToText.from_pretrained(folders[kind])
    question = questions(kind)[3]
    content = [{"type": "image", "image": question.image}, {"type": "text", "text": question.prompt}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    tokens = model.generate(**inputs, do_sample=False, max_new_tokens=64)[0, inputs["input_ids"].shape[1] :]
    expected = processor.decode(tokens, skip_special_tokens=True)
    assert expected and TransformersModel(folders[kind]).answer([question]) == [expected]


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["llava", "qwen2_vl"])
def test_several_pictures_are_asked_about_in_their_order_in_a_batch_too(folders, kind):
    processor = AutoProcessor.from_pretrained(folders[kind])
    model = AutoModelForImageTextToText.from_pretrained(folders[kind])
    pictures = [noise(row, size) for row, size in enumerate(SIZES[:3])]
    asked, expected = [], []
    for shown in (pictures, pictures[::-1], pictures[1:]):
        content = [*({"type": "image", "image": x} for x in shown), {"type": "text", "text": "which?"}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        tokens = model.generate(**inputs, do_sample=False, max_new_tokens=64)[0, inputs["input_ids"].shape[1] :]
        expected.append(processor.decode(tokens, skip_special_tokens=True))
        asked.append(Question("which?", shown[0], 2, more_images=tuple(shown[1:])))
    assert len(set(expected)) == 3
    assert TransformersModel(folders[kind], batch_size=3).answer(asked) == expected


@torch.inference_mode()
def test_a_text_is_asked_about_as_the_tokenizer_s_chat_template_says(folders):
    tokenizer, model = (x.from_pretrained(folders["llama"]) for x in (AutoTokenizer, AutoModelForCausalLM))
    message = {"role": "user", "content": "tags please"}
    tokens = tokenizer.apply_chat_template([message], add_generation_prompt=True, return_dict=True, return_tensors="pt")
    assert tokenizer.convert_ids_to_tokens(tokens["input_ids"][0][:2]) != [START, START]
    answer = model.generate(**tokens, do_sample=False, max_new_tokens=64)[0, tokens["input_ids"].shape[1] :]
    expected = tokenizer.decode(answer, skip_special_tokens=True)
    assert TransformersModel(folders["llama"]).answer([Question("tags please", None, 2)]) == [expected]


@torch.inference_mode()
def test_without_a_chat_template_the_bare_prompt_is_asked(tmp_path):
    folder = write_llama(tmp_path / "plain", chat=False)
    tokenizer, model = (x.from_pretrained(folder) for x in (AutoTokenizer, AutoModelForCausalLM))
    inputs = tokenizer("tags please", return_tensors="pt", return_token_type_ids=False)
    tokens = model.generate(**inputs, do_sample=False, max_new_tokens=64)[0, inputs["input_ids"].shape[1] :]
    expected = tokenizer.decode(tokens, skip_special_tokens=True)
    assert TransformersModel(folder).answer([Question("tags please", None, 2)]) == [expected]


def test_a_vision_language_model_without_a_chat_template_still_sees(tmp_path):
    folder = write_llava(tmp_path / "plain")
    (folder / "chat_template.jinja").unlink()
    first, second = TransformersModel(folder).answer(
        [Question("tags", noise(1, (40, 40)), 1), Question("tags", RED, 1)]
    )
    assert first != second


@pytest.mark.parametrize("kind", WRITERS)
def test_an_answer_has_as_many_tokens_as_its_tags_can_need(folders, kind, monkeypatch):
    model, lengths = TransformersModel(folders[kind], batch_size=1), []
    loaded = model._load()
    generate = loaded.model.generate

    def measured(**inputs):
        tokens = generate(**inputs)
        lengths.append(tokens.shape[1] - inputs["input_ids"].shape[1])
        return tokens

    monkeypatch.setattr(loaded.model, "generate", measured)
    model.answer([replace(questions(kind)[1], tag_limit=limit) for limit in (1, 7, None)])
    assert lengths == [52, 124, 160]


@pytest.mark.parametrize("kind", ["llava", "qwen2_vl"])
def test_an_item_s_text_cannot_pretend_to_be_a_picture_or_end_its_turn(folders, kind):
    model, special = TransformersModel(folders[kind]), AutoTokenizer.from_pretrained(folders[kind]).get_added_vocab()
    assert END in special and {"<image>", "<|image_pad|>"} & set(special)
    hostile, plain = f"a{''.join(special)}b", f"a{' ' * len(special)}b"
    assert model.answer([Question(hostile, BLUE, 1)]) == model.answer([Question(plain, BLUE, 1)])


# ---- tags


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A LLaVA that knows two pictures, and a Llama that knows two texts."""
    base = tmp_path_factory.mktemp("taught")
    vision, language = write_llava(base / "vision"), write_llama(base / "language")
    prompt = POSTER.image_prompt.format(phi=POSTER.phi, tag_limit=POSTER.tag_limit)
    teach(vision, [(RED, prompt, "red tones, tense"), (BLUE, prompt, "1. blue tones\n2. ocean")])
    texts = {text: POSTER.text_prompt.format(phi=POSTER.phi, tag_limit=POSTER.tag_limit, text=text) for text in "ab"}
    teach(language, [(None, texts["a"], "war, tense"), (None, texts["b"], "Tags: romance, couple.")])
    return TaggerModels(vision=vision, language=str(language), device="cpu", dtype="float32")


def test_pictures_and_texts_are_tagged_by_their_models(taught):
    tagger = make_tagger("transformers", taught)
    found = tagger.tag([RED, BLUE, None, RED], ["a", None, "b", "b"], POSTER)
    assert found == [
        ItemTags(("red tones", "tense"), ("war", "tense")),
        ItemTags(("blue tones", "ocean"), ()),
        ItemTags((), ("romance", "couple")),
        ItemTags(("red tones", "tense"), ("romance", "couple")),
    ]


def test_keywords_read_the_text_where_only_a_vision_model_is_given(taught):
    tagger = make_tagger("transformers + keywords", replace(taught, language=None))
    assert tagger.name == "transformers + keywords"
    assert tagger.tag([RED], ["Genres: western."], POSTER) == [ItemTags(("red tones", "tense"), ("western",))]


# ---- loading


def test_weights_are_loaded_once_when_they_are_needed_and_leave_the_memory(taught, monkeypatch):
    room, reads = [], []
    read = subject._read
    monkeypatch.setattr(subject, "_read", lambda *given: reads.append(given) or read(*given))
    host = Host(make_room=lambda size, device: room.append((size, device)))
    tagger = make_tagger("transformers", taught, host)
    assert not reads
    for _ in range(2):
        tagger.tag([RED], ["a"], POSTER)
        make_tagger("transformers", taught, host).tag([RED], ["a"], POSTER)
    folders = [Path(taught.vision), Path(taught.language)]
    assert [given[0] for given in reads] == folders
    assert room == [((folder / "model.safetensors").stat().st_size, "cpu") for folder in folders]
    models = [weakref.ref(loaded.model) for loaded in subject._loaded.values()]
    unload_models()
    gc.collect()
    assert len(models) == 2 and all(model() is None for model in models)
    assert tagger.tag([RED], [None], POSTER)[0].image and len(reads) == 3


def test_one_model_can_see_and_read_and_is_loaded_once(folders):
    tagger = make_tagger("transformers", TaggerModels(vision=folders["qwen2_vl"], language=folders["qwen2_vl"]))
    tagger.tag([RED], ["a text"], POSTER)
    assert len(subject._loaded) == 1


def test_where_a_gpu_has_no_room_for_two_the_first_makes_way(taught, monkeypatch):
    monkeypatch.setattr(subject, "_has_room", lambda device, size: False)
    tagger = make_tagger("transformers", taught)
    assert tagger.tag([RED], ["a"], POSTER) == [ItemTags(("red tones", "tense"), ("war", "tense"))]
    assert len(subject._loaded) == 1


def test_nothing_heavy_is_imported_before_a_question(folders):
    code = (
        "import sys; from iamg.tagging import TaggerModels, make_tagger; "
        "make_tagger('transformers', TaggerModels(vision=sys.argv[1])); print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, folders["llava"]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "transformers"} & set(done.stdout.split())


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.float32), ("meta", torch.float16)])
def test_auto_computes_in_what_the_device_is_quick_in(device, dtype):
    assert subject._torch_dtype("auto", torch.device(device)) is dtype
    assert subject._torch_dtype("bfloat16", torch.device(device)) is torch.bfloat16


def test_half_precision_is_used_where_it_is_asked_for(folders):
    model = TransformersModel(folders["llava"], dtype="bfloat16")
    model.answer([Question("tags", RED, 1)])
    assert {loaded.model.dtype for loaded in subject._loaded.values()} == {torch.bfloat16}


# ---- folders from strangers


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def copy(folder, destination) -> Path:
    shutil.copytree(folder, destination)
    return destination


def change(path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_pickled_weights_are_never_read(folders, tmp_path):
    folder = copy(folders["llama"], tmp_path / "model")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    assert TransformersModel(folder).answer([Question("tags", None, 1)])
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model has no config.json with .safetensors.*.bin, .pt"):
        TransformersModel(folder)


@pytest.mark.parametrize("known", [True, False])
def test_code_that_a_model_carries_is_not_run(folders, tmp_path, known):
    folder, marker = copy(folders["llama"], tmp_path / "model"), tmp_path / "code was run"
    for name in ("configuration_evil", "modeling_evil", "tokenization_evil"):
        (folder / f"{name}.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    auto_map = {"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"}
    change(folder / "config.json", auto_map=auto_map, **({} if known else {"model_type": "evil"}))
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_evil.Evil", None]})
    model = TransformersModel(folder)
    if known:
        assert model.answer([Question("tags", None, 1)]) == TransformersModel(folders["llama"]).answer(
            [Question("tags", None, 1)]
        )
    else:
        with pytest.raises(ValueError, match="model cannot be loaded by transformers"):
            model.answer([Question("tags", None, 1)])
    assert not marker.exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_configuration_that_asks_for_kernels_of_the_hub_is_refused(folders, tmp_path, key, nested):
    folder = copy(folders["llava"], tmp_path / "model")
    asked = {key: "someone/evil-kernel"}
    text = json.loads((folder / "config.json").read_text())["text_config"]
    change(folder / "config.json", **({"text_config": text | asked} if nested else asked))
    with pytest.raises(ValueError, match="config.json names code that lies elsewhere .someone/evil-kernel"):
        TransformersModel(folder)


def test_an_adapter_is_refused_because_its_model_lies_elsewhere(folders, tmp_path):
    folder = copy(folders["llama"], tmp_path / "model")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    with pytest.raises(ValueError, match="model is an adapter to a model that lies elsewhere"):
        TransformersModel(folder)


@pytest.mark.parametrize("source", ["missing", "a/b/c", "/no/where", "../up", Path("owner/name")])
def test_what_is_neither_a_folder_nor_an_id_is_named(source):
    with pytest.raises(FileNotFoundError, match="is no folder; give a model's folder, or an id"):
        TransformersModel(source)


def test_an_id_is_fetched_without_its_code_and_pickles(folders, monkeypatch):
    asked = []

    def snapshot_download(source, allow_patterns, ignore_patterns):
        asked.append((source, allow_patterns, ignore_patterns))
        return str(folders["llama"])

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert TransformersModel("owner/name").folder == folders["llama"]
    ((source, allowed, _),) = asked
    assert source == "owner/name"
    assert not [
        name for name in ("modeling.py", "model.bin", "a.pt", "a.pkl") if any(Path(name).match(x) for x in allowed)
    ]


def test_broken_folders_are_named(folders, tmp_path):
    folder = copy(folders["llama"], tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(ValueError, match="model cannot be loaded by transformers"):
        TransformersModel(folder).answer([Question("tags", None, 1)])
    (folder / "config.json").write_text("[")
    with pytest.raises(ValueError, match="config.json is no configuration"):
        TransformersModel(folder)


def test_a_language_model_cannot_be_shown_pictures(folders):
    with pytest.raises(ValueError, match="sees no pictures; choose a vision-language model"):
        TransformersModel(folders["llama"]).answer([Question("tags", RED, 1)])


def test_other_weights_or_another_template_are_another_model(folders, tmp_path):
    prints = {TransformersModel(folders["llama"]).fingerprint}
    prints.add(TransformersModel(copy(folders["llama"], tmp_path / "same")).fingerprint)
    assert len(prints) == 1
    prints.add(TransformersModel(write_llama(tmp_path / "seeded", seed=1)).fingerprint)
    other = copy(folders["llama"], tmp_path / "other")
    (other / "chat_template.jinja").write_text("{{ messages[0].content }}")
    prints.add(TransformersModel(other).fingerprint)
    assert len(prints) == 3
