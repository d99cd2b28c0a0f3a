import json
import math
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPModel

from iamg.mini.family import Family, family_bytes
from iamg.scenarios import load_scenarios
from iamg.tagging import MINI_CLIP, ItemTags, TaggerModels, make_tagger
from iamg.tagging.cache import CachedTagger
from iamg.tagging.clip import BATCH, ClipTagger
from iamg.tagging.mini_clip import mini_clip
from iamg.tagging.open_clip_files import CONFIG, WEIGHTS, open_clip_folder

ROOT = Path(__file__).parents[2]
VOCABULARY = {
    "colour": ("red", "green", "blue"),
    "light": ("dark", "even", "bright"),
    "mood": ("sad", "calm", "wild", "odd"),
}
SCENARIO = replace(load_scenarios()["movie poster"], name="test", vocabulary=VOCABULARY, tag_prompt="{phi}: {tag}")
TAGS = [tag for group in VOCABULARY.values() for tag in group]
MEAN, STD = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])


def noise(seed, size=(64, 64)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


class TableModel:
    """Embeddings drawn at random for each text, and for the colour of a picture's first pixel."""

    fingerprint, logit_scale, width = "table", 3.0, 8

    def __init__(self):
        self.texts = []

    def embed_texts(self, texts):
        self.texts += texts
        return torch.stack([self.vector(text) for text in texts])

    def embed_images(self, images):
        assert len(images) <= BATCH
        return torch.stack([self.vector(str(image.getpixel((0, 0)))) for image in images])

    def vector(self, name):
        return normalize(torch.from_numpy(np.random.default_rng(list(name.encode())).normal(size=self.width)), dim=0)


def naive_tags(model, image) -> list[str]:
    """Softmax within each group, written out."""
    picture, found = model.vector(str(image.getpixel((0, 0)))).tolist(), []
    for group in VOCABULARY.values():
        texts = [model.vector(f"movie poster: {tag}").tolist() for tag in group]
        powers = [math.exp(3.0 * sum(a * b for a, b in zip(picture, text, strict=True))) for text in texts]
        found += [tag for tag, power in zip(group, powers, strict=True) if power / sum(powers) >= 0.5]
    return found


def test_each_group_gives_the_tag_that_has_half_of_its_softmax():
    model = TableModel()
    pictures = [noise(seed, (2, 2)) for seed in range(6 * BATCH + 5)]
    expected = [ItemTags(image=tuple(naive_tags(model, picture))) for picture in pictures]
    assert {len(tags.image) for tags in expected} == {0, 1, 2, 3}
    assert ClipTagger(model).tag(pictures, [None] * len(pictures), SCENARIO) == expected


def test_texts_and_items_without_a_picture_give_no_tags():
    tagger, pictures = ClipTagger(TableModel()), [noise(0, (2, 2)), noise(1, (2, 2))]
    first, second = tagger.tag(pictures, ["Genres: war.", None], SCENARIO)
    assert first.text == () and first.image
    assert tagger.tag([None, *pictures, None], ["a"] * 4, SCENARIO) == [ItemTags(), first, second, ItemTags()]
    assert tagger.tag([], [], SCENARIO) == []
    with pytest.raises(ValueError, match="zip"):
        tagger.tag(pictures, ["a"], SCENARIO)


def test_the_first_groups_win_where_tags_are_limited():
    tagger = ClipTagger(TableModel())
    picture = next(x for x in map(noise, range(99)) if len(naive_tags(TableModel(), x)) == 3)
    (all_tags,) = tagger.tag([picture], [None], SCENARIO)
    (limited,) = tagger.tag([picture], [None], replace(SCENARIO, tag_limit=3))
    assert len(all_tags.image) == 3 and limited.image == all_tags.image[:2]
    backwards = replace(SCENARIO, vocabulary=dict(reversed(VOCABULARY.items())))
    assert tagger.tag([picture], [None], backwards)[0].image == all_tags.image[::-1]


def test_a_scenario_s_tags_are_embedded_once():
    model = TableModel()
    tagger = ClipTagger(model)
    for _ in range(3):
        tagger.tag([noise(0)] * (BATCH + 1), [None] * (BATCH + 1), SCENARIO)
    assert model.texts == [f"movie poster: {tag}" for tag in TAGS]
    tagger.tag([noise(0)], [None], replace(SCENARIO, tag_prompt="{tag}"))
    assert model.texts[len(TAGS) :] == TAGS


def test_a_scenario_without_a_vocabulary_is_refused():
    with pytest.raises(ValueError, match="'test' has no vocabulary.*choose another tagger"):
        ClipTagger(TableModel()).tag([None], ["a"], replace(SCENARIO, vocabulary={}))


@pytest.mark.parametrize("embedding", [[0.6, 0.8], [math.nan, 1.0]])
def test_a_model_that_does_not_know_the_words_is_refused(embedding):
    class Deaf(TableModel):
        def embed_texts(self, texts):
            return torch.tensor([[0.0, 1.0], embedding, embedding])[: len(texts)]

        def embed_images(self, images):
            return torch.tensor([[1.0, 0.0]])

    with pytest.raises(ValueError, match="does not know the words.*(green|red)' and '(blue|green)' alike"):
        ClipTagger(Deaf()).tag([noise(0)], [None], SCENARIO)


def test_another_vocabulary_or_other_weights_are_not_answered_from_the_cache(tmp_path):
    model = TableModel()
    CachedTagger(ClipTagger(model), tmp_path / "tags").tag([noise(0)], [None], SCENARIO)
    asked = len(model.texts)
    CachedTagger(ClipTagger(model), tmp_path / "tags").tag([noise(0)], [None], SCENARIO)
    assert len(model.texts) == asked
    other = replace(SCENARIO, vocabulary={**VOCABULARY, "light": ("dark", "dim", "glaring")})
    CachedTagger(ClipTagger(model), tmp_path / "tags").tag([noise(0)], [None], other)
    assert len(model.texts) == asked + len(TAGS)
    model.fingerprint = "other weights"
    CachedTagger(ClipTagger(model), tmp_path / "tags").tag([noise(0)], [None], SCENARIO)
    assert len(model.texts) == asked + 2 * len(TAGS)


# ---- a folder as open_clip publishes its models


MODEL_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}
PREPROCESSING = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear", "resize_mode": "squash"}


def seeded(model, seed):
    """Every weight drawn anew, those that begin as zeros and ones too; but for the logit scale."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name != "logit_scale":
                centre = 1.0 if ("ln_" in name or "norm" in name) and name.endswith("weight") else 0.0
                weight.copy_(centre + 0.1 * torch.randn(weight.shape, generator=generator))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def small_open_clip():
    return seeded(open_clip.CLIP(**MODEL_CONFIG, init_logit_scale=5.0), 1)


@pytest.fixture
def folder(small_open_clip, tmp_path):
    folder = tmp_path / "small model"
    folder.mkdir()
    save_file(small_open_clip.state_dict(), folder / WEIGHTS)
    write_config(folder)
    return folder


def write_config(folder, text=None, vision=None):
    model = {**MODEL_CONFIG}
    model["text_cfg"], model["vision_cfg"] = model["text_cfg"] | (text or {}), model["vision_cfg"] | (vision or {})
    (folder / CONFIG).write_text(json.dumps({"model_cfg": model, "preprocess_cfg": PREPROCESSING}))


@torch.inference_mode()
def test_a_folder_gives_its_model_s_own_embeddings(folder, small_open_clip):
    found = open_clip_folder(folder)
    tokens = open_clip.SimpleTokenizer()(["a red poster", "night"])
    texts = small_open_clip.encode_text(tokens, normalize=True)
    torch.testing.assert_close(found.embed_texts(["a red poster", "night"]), texts)
    pictures = [noise(0, (32, 32)), noise(1, (48, 80))]
    squashed = [np.asarray(x.resize((32, 32), Image.Resampling.BILINEAR)) / 255 for x in pictures]
    pixels = np.stack([(x - PREPROCESSING["mean"]) / PREPROCESSING["std"] for x in squashed]).transpose(0, 3, 1, 2)
    images = small_open_clip.encode_image(torch.from_numpy(pixels).float(), normalize=True)
    torch.testing.assert_close(found.embed_images(pictures), images)
    assert found.logit_scale == pytest.approx(math.exp(small_open_clip.logit_scale.item()))


def test_a_folder_tags_as_its_model_s_own_logits_say(folder, small_open_clip):
    pictures, scenario = [noise(seed, (32, 32)) for seed in range(8)], replace(SCENARIO, vocabulary={"all": TAGS})
    found = make_tagger("clip", TaggerModels(clip=folder)).tag(pictures, [None] * 8, scenario)
    assert len(set(found)) > 1
    prompts = open_clip.SimpleTokenizer()([f"movie poster: {tag}" for tag in TAGS])
    for picture, tags in zip(pictures, found, strict=True):
        pixels = (np.asarray(picture) / 255 - PREPROCESSING["mean"]) / PREPROCESSING["std"]
        with torch.inference_mode():
            logits, _ = small_open_clip.get_logits(torch.from_numpy(pixels).float().permute(2, 0, 1)[None], prompts)
        chances = logits[0].softmax(dim=0)
        assert tags.image == ((TAGS[chances.argmax()],) if chances.max() >= 0.5 else ())


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def test_pickled_weights_are_never_read(folder):
    for name in ("open_clip_pytorch_model.bin", "a.pth", "model.pt"):
        (folder / name).write_bytes(pickle.dumps(Bomb()))
    assert open_clip_folder(folder).embed_texts(["a"]).shape == (1, 16)
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=f"small model has no {WEIGHTS}.*.bin or .pt are not read"):
        open_clip_folder(folder)


@pytest.mark.parametrize(
    ("text", "vision", "named"),
    [
        ({"hf_model_name": "roberta-base"}, {}, "hf_model_name"),
        (
            {"hf_tokenizer_name": "someone/else", "tokenizer_kwargs": {"trust_remote_code": True}},
            {},
            "hf_tokenizer_name",
        ),
        ({"tokenizer_kwargs": {"bpe_path": "/etc/passwd"}}, {}, "tokenizer_kwargs"),
        ({}, {"timm_model_name": "hf-hub:someone/else"}, "timm_model_name"),
        ({}, {"timm_model_name": "local-dir:/somewhere"}, "timm_model_name"),
    ],
)
def test_a_configuration_that_fetches_from_elsewhere_is_refused(folder, text, vision, named):
    write_config(folder, text, vision)
    with pytest.raises(ValueError, match=f"{CONFIG} names parts that lie elsewhere .*{named}.*choose a model"):
        open_clip_folder(folder)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"{}", b'{"model_cfg": {"text_cfg": 3}}', b"[" * 99999])
def test_a_file_that_is_no_configuration_is_named(folder, content):
    (folder / CONFIG).write_bytes(content)
    with pytest.raises(ValueError, match=f"{CONFIG} is no configuration of an open_clip model"):
        open_clip_folder(folder)


def test_weights_that_do_not_fit_their_configuration_are_named(folder):
    write_config(folder, vision={"width": 128})
    with pytest.raises(ValueError, match="small model cannot be loaded by open_clip"):
        open_clip_folder(folder).embed_texts(["a"])


def test_a_file_and_a_missing_folder_are_no_model(folder):
    for path in (folder / WEIGHTS, folder / "missing"):
        with pytest.raises(FileNotFoundError, match=f"has no {CONFIG}"):
            open_clip_folder(path)


def test_the_fingerprint_tells_weights_and_configurations_apart(folder, small_open_clip):
    before = open_clip_folder(folder).fingerprint
    assert open_clip_folder(folder).fingerprint == before
    write_config(folder, vision={"patch_dropout": 0.5})
    configured = open_clip_folder(folder).fingerprint
    save_file({**small_open_clip.state_dict(), "logit_scale": torch.tensor(1.0)}, folder / WEIGHTS)
    assert len({before, configured, open_clip_folder(folder).fingerprint}) == 3


# ---- the mini family


WORDS = [343, 736, 1449, 926, 1746, 1579, 2866, 997, 4485, 5135]  # tokens whose rows are their own
CLIP = {
    "hidden_act": "quick_gelu",
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_attention_heads": 2,
    "projection_dim": 48,
}


@pytest.fixture(scope="module")
def clip_model():
    """transformers' CLIP with seeded weights; the rows of all words but a few are one row, as in the family's file."""
    config = CLIPConfig(
        text_config={**CLIP, "num_hidden_layers": 2, "bos_token_id": 49406, "eos_token_id": 49407},
        vision_config={**CLIP, "num_hidden_layers": 3, "image_size": 64, "patch_size": 16},
        projection_dim=48,
    )
    model = seeded(CLIPModel(config), 2)
    table = model.text_model.embeddings.token_embedding.weight
    known = torch.zeros(len(table), dtype=torch.bool)
    known[[*WORDS, *tokens("a red poster at night, blue")[0].tolist()]] = True
    table[~known] = table[0].clone()
    return model


@pytest.fixture(scope="module")
def family(clip_model, tmp_path_factory):
    state = clip_model.state_dict()
    text = {f"cond_stage_model.transformer.{key}": x for key, x in state.items() if key.startswith("text_")}
    vision = {key: x for key, x in state.items() if key.startswith("vis")}
    path = tmp_path_factory.mktemp("mini") / "family.safetensors"
    path.write_bytes(family_bytes(Family(text, vision, 17.5, {})))
    return path


def tokens(*texts):
    """CLIP's own: end tokens up to 77."""
    rows = [[49406, *open_clip.SimpleTokenizer().encode(text), 49407] for text in texts]
    return torch.tensor([row + [49407] * (77 - len(row)) for row in rows])


@torch.inference_mode()
def test_the_mini_towers_embed_as_transformers_does(family, clip_model):
    found, texts = mini_clip(family), ["a red poster at night", "blue", ""]
    hidden = clip_model.text_model(input_ids=tokens(*texts)).pooler_output
    expected = normalize(clip_model.text_projection(hidden), dim=-1)
    torch.testing.assert_close(found.embed_texts(texts), expected, rtol=1e-4, atol=1e-6)
    pictures = [noise(seed) for seed in range(3)]
    pixels = torch.from_numpy(np.stack([(np.asarray(x) / 255 - MEAN) / STD for x in pictures])).float().movedim(-1, 1)
    hidden = clip_model.vision_model(pixel_values=pixels).pooler_output
    expected = normalize(clip_model.visual_projection(hidden), dim=-1)
    torch.testing.assert_close(found.embed_images(pictures), expected, rtol=1e-4, atol=1e-6)
    assert found.logit_scale == pytest.approx(17.5)


def test_the_mini_image_tower_sees_the_middle_square(family):
    found, wide = mini_clip(family), Image.new("RGB", (192, 128), "red")
    wide.paste(noise(3).resize((128, 128), Image.Resampling.NEAREST), (32, 0))
    middle = wide.crop((32, 0, 160, 128))
    ours, cropped = found.embed_images([wide, middle])
    assert ours @ cropped > 0.999  # the resampling alone sees the red beside it
    assert found.embed_images([Image.new("RGB", (192, 128), "red")])[0] @ cropped < 0.99


# ---- by name


def test_clip_taggers_by_name(folder):
    picture = noise(0)
    for name in ("clip", "clip + keywords"):
        tagger = make_tagger(name, TaggerModels(clip=folder))
        assert tagger.name == name
        json.dumps(tagger.parameters)
        (tags,) = tagger.tag([picture], ["Genres: war, peace."], SCENARIO)
        assert (
            tags.image == make_tagger("clip", TaggerModels(clip=str(folder))).tag([picture], [None], SCENARIO)[0].image
        )
        assert tags.text == (("war", "peace") if "keywords" in name else ())
    assert make_tagger("keywords", TaggerModels(clip=folder)).parameters == make_tagger("keywords").parameters


def test_the_pack_s_own_model_is_known_by_name(monkeypatch, family):
    monkeypatch.setattr("iamg.tagging.mini_clip.mini_clip", lambda: mini_clip(family))
    tagger = make_tagger("clip", TaggerModels(clip=MINI_CLIP))
    assert tagger.parameters["model"] == mini_clip(family).fingerprint


def test_without_a_model_or_without_open_clip_it_is_said_what_to_do(monkeypatch, folder):
    with pytest.raises(ValueError, match="needs a CLIP model.*folder of an open_clip model, or 'iamg_mini'"):
        make_tagger("clip + keywords")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ValueError, match="pip install open_clip_torch"):
        make_tagger("clip", TaggerModels(clip=folder))


def test_open_clip_is_not_imported_before_something_is_embedded(folder):
    code = (
        "import sys; from iamg.tagging import TaggerModels, make_tagger; "
        "make_tagger('clip', TaggerModels(sys.argv[1])); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "open_clip", "transformers"} & set(done.stdout.split())
