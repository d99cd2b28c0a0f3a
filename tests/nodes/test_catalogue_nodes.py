"""From items to retrieved neighbours: the nodes on ComfyUI's own CLIP classes, against the method's rooms."""

import csv
import json

import comfy.model_management
import folder_paths
import numpy as np
import open_clip
import pytest
import rig
import torch
from comfy.clip_model import clip_preprocess
from open_clip.tokenizer import SimpleTokenizer
from pack.iamg.clip_pixels import clip_pixels
from pack.iamg.interests import interest_tags
from pack.iamg.tagging import ItemTags
from pack.nodes.adapter_weights import on_device
from pack.nodes.encoders import ClipText, ComfyEncoders
from pack.nodes.folders import OPEN_CLIP, scenarios
from pack.nodes.foreground import IAMGForeground
from pack.nodes.interest_rewrite import InterestRewrite
from pack.nodes.ira_fuse import IRAFuse
from pack.nodes.pictures import to_tensor
from pack.nodes.pool_builder import IAMGPoolBuilder
from pack.nodes.pool_from_pictures import IAMGPoolFromPictures
from pack.nodes.pool_loader import EmbeddingPoolLoader
from pack.nodes.tag_extractor import TagExtractor
from pack.nodes.top_k_retriever import TopKRetriever
from pack.nodes.user_history import IAMGUserHistory
from PIL import Image
from safetensors.torch import save_file

COUNT = 12
POSTER = "movie poster"
TAGGER = "visual + keywords"


def drawn(seed, size=(96, 128)) -> Image.Image:
    blocks = np.random.default_rng(seed).integers(0, 255, (4, 3, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)


@pytest.fixture(scope="module", autouse=True)
def as_comfyui_runs_nodes():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def clip():
    return rig.small_clip()


@pytest.fixture(scope="module")
def vision():
    return rig.small_clip_vision()


@pytest.fixture(scope="module")
def comfy_folders(tmp_path_factory):
    """ComfyUI's own folders, moved to an empty place for this module."""
    base = tmp_path_factory.mktemp("comfy")
    patch = pytest.MonkeyPatch()
    for name in ("input", "temp", "user"):
        (base / name).mkdir()
        patch.setattr(folder_paths, f"{name}_directory", str(base / name))
    for name in ("iamg_pools", OPEN_CLIP):
        patch.setitem(folder_paths.folder_names_and_paths, name, ([str(base / name)], set()))
    yield base
    patch.undo()


@pytest.fixture(scope="module")
def catalogue(comfy_folders):
    folder = comfy_folders / "input" / "films"
    folder.mkdir()
    rows = []
    for number in range(COUNT):
        drawn(number).save(folder / f"{number}.png")
        rows.append(
            {
                "file_name": f"{number}.png",
                "item_id": f"m{number}",
                "title": f"Film {number}",
                "text": f"A story of number {number} and its long way home.",
                "tags": ["even" if number % 2 == 0 else "odd", f"tag {number % 3}"],
            }
        )
    (folder / "broken.png").write_bytes(b"no picture")
    rows.append({"file_name": "broken.png", "item_id": "broken", "title": "Broken", "text": "x", "tags": []})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with open(folder / "interactions.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["user_id", "item_id", "rating", "timestamp"])
        table.writerows(["ada", f"m{n}", 5.0, 100 + n] for n in range(8))
        table.writerow(["ada", "m8", 1.0, 200])
        table.writerows(["bo", f"m{n}", 4.5, n] for n in range(3))
    return folder


@pytest.fixture(scope="module")
def built(catalogue, clip, vision):
    return IAMGPoolBuilder.execute("films", "films", clip, vision, POSTER, TAGGER, "center_crop")


@pytest.fixture(scope="module")
def pool(built):
    return EmbeddingPoolLoader.execute("films").result[0]


def retrieve(pool, clip, vision, picture=0, text="A story of number 3", top_k=5, leave_out_id="", **more):
    options = {"leave_one_out": True, "near_duplicate": 0.985} | more
    image = to_tensor(drawn(picture))
    return TopKRetriever.execute(pool, clip, text, vision, image, top_k, leave_out_id, **options)


# ---- encoders


def test_tokens_are_what_clip_text_encode_gives_and_the_key_is_its_pooled_row(clip):
    texts = ["a red fox", "Toy Story \\(1995\\), a longer line of words"]
    tokens, pooled = ClipText(clip).encode_prompts(texts)
    for index, text in enumerate(texts):
        expected = clip.encode_from_tokens(clip.tokenize(text), return_dict=True)
        torch.testing.assert_close(tokens[index : index + 1], expected["cond"], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(pooled[index : index + 1], expected["pooled_output"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("text", ["", "a", "Toy Story (1995) and (more)", "word " * 200])
def test_the_count_is_clips_own(clip, text):
    assert ClipText(clip).count(text) == len(SimpleTokenizer().encode(text))


def test_a_clip_of_another_family_is_refused():
    class Sdxl:
        def tokenize(self, text):
            return {"l": [], "g": []}

    with pytest.raises(ValueError, match="SD1.5's text encoder.*has g, l"):
        ClipText(Sdxl())


@pytest.mark.parametrize("size", [(64, 64), (96, 144), (640, 427), (37, 20)])
@pytest.mark.parametrize("crop", [True, False])
def test_pictures_meet_clip_as_comfyui_prepares_them(size, crop):
    picture = to_tensor(drawn(0, size))
    assert torch.equal(clip_pixels(picture, 64, crop), clip_preprocess(picture, size=64, crop=crop))


# ---- tags and rewriting


@pytest.fixture(scope="module")
def small_open_clip(comfy_folders):
    """An open_clip model of random weights, in models/open_clip and at hand."""
    folder = comfy_folders / OPEN_CLIP / "small"
    folder.mkdir(parents=True)
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
        "text_cfg": {"width": 64, "heads": 1, "layers": 1},
    }
    torch.manual_seed(0)
    with torch.inference_mode(False):
        model = open_clip.CLIP(**config, init_logit_scale=6.0).eval()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    return model


def test_four_pictures_and_a_line_each_become_four_items(comfy_folders):
    images = {f"image{n}": to_tensor(drawn(n)) for n in range(4)}
    lines = "space, adventure\nromance, paris\n\nwestern, desert"
    tags, text = TagExtractor.execute(POSTER, TAGGER, lines, "", images).result
    assert len(tags) == 4 and len(text.splitlines()) == 4
    assert set(tags[0].text) == {"space", "adventure"} and tags[2].text == ()
    assert all(item.image for item in tags)


def test_typed_tags_alone_are_enough(comfy_folders):
    tags, text = TagExtractor.execute(POSTER, TAGGER, "", "neon, rain").result
    assert tags[0].text == ("neon", "rain") and text == "neon, rain"


def test_the_clip_tagger_looks_with_a_model_of_comfyui_s_folder(small_open_clip):
    pictures = [drawn(n, (32, 32)) for n in range(3)]
    images = {f"image{n}": to_tensor(picture) for n, picture in enumerate(pictures)}
    tags, _ = TagExtractor.execute(POSTER, "clip", "", "", images, "small").result
    scenario = scenarios()[POSTER]
    for picture, item in zip(pictures, tags, strict=True):
        pixels = clip_preprocess(to_tensor(picture), size=32)
        expected = []
        for group in scenario.vocabulary.values():
            prompts = open_clip.SimpleTokenizer()([f"a movie poster, {tag}" for tag in group])
            chances = small_open_clip.get_logits(pixels, prompts)[0][0].softmax(dim=0)
            expected += [tag for tag, chance in zip(group, chances, strict=True) if chance >= 0.5]
        assert expected and list(item.image) == expected[: scenario.tag_limit - 1]


def test_only_clip_models_of_comfyui_s_folder_can_be_chosen(small_open_clip, comfy_folders, catalogue, clip, vision):
    for node in (TagExtractor, IAMGPoolBuilder):
        entry = next(entry for entry in node.GET_SCHEMA().inputs if entry.id == "clip_model")
        assert (entry.optional, entry.default) == (True, "iamg_mini")
        assert entry.options == ["iamg_mini", "small"]
    images = {"image0": to_tensor(drawn(0))}
    for name in ("", "other", "../open_clip/small", str(comfy_folders / OPEN_CLIP / "small")):
        with pytest.raises(ValueError, match="needs a CLIP model"):
            TagExtractor.execute(POSTER, "clip", "", "", images, name)
        with pytest.raises(ValueError, match="needs a CLIP model"):
            IAMGPoolBuilder.execute("films", "other", clip, vision, POSTER, "clip", "center_crop", name)


def test_lines_that_do_not_match_the_pictures_are_refused(comfy_folders):
    images = {"image0": to_tensor(drawn(0)), "image1": to_tensor(drawn(1))}
    with pytest.raises(ValueError, match="2 pictures but 3 lines"):
        TagExtractor.execute(POSTER, TAGGER, "a\nb\nc", "", images)
    with pytest.raises(ValueError, match="nothing to look at"):
        TagExtractor.execute(POSTER, TAGGER, " ", "")


def test_the_rewritten_text_names_item_and_interests_in_one_window(clip):
    history = [ItemTags(text=("space", "robots")), ItemTags(text=("space",)), ItemTags(text=("robots", "comedy"))]
    prompt, report = InterestRewrite.execute(
        clip, "Heat (1995).", POSTER, 8, "", [ItemTags(text=("crime", "night"))], history
    ).result
    assert prompt == (
        "Heat \\(1995\\). This movie poster is about crime, night, maybe related to "
        + ", ".join(interest_tags(history, 8))
        + "."
    )
    assert "tokens" in report
    (window,) = clip.tokenize(prompt)["l"]
    assert len(window) == 77 and all(weight == 1.0 for _, weight in window)


def test_typed_interests_replace_the_history(clip):
    prompt = InterestRewrite.execute(clip, "Heat.", POSTER, 8, "neon, rain", None, [ItemTags(text=("space",))]).result[
        0
    ]
    assert prompt == "Heat. This movie poster is maybe related to neon, rain."


def test_unwanted_tags_are_named_neither_of_the_item_nor_of_the_history(clip):
    given = clip, "Heat.", POSTER, 8, "", [ItemTags(("dark tones",), ("crime",))], [ItemTags(("Dark-Tone", "blue"))]
    assert InterestRewrite.execute(*given, exclude_tags="dark tone, rain").result[0] == (
        "Heat. This movie poster is about crime, maybe related to blue."
    )
    assert InterestRewrite.execute(*given, only_tags="blues").result[0] == (
        "Heat. This movie poster is maybe related to blue."
    )


@pytest.mark.parametrize("text", ["word " * 5000, "🎬" * 300, "((((", "a,\nb," * 100])
def test_hostile_text_still_fits_one_window(clip, text):
    tags = [ItemTags(text=("a (b)", "c,d\ne", "🎬", "x" * 300))]
    prompt = InterestRewrite.execute(clip, text, POSTER, 8, "", tags, tags * 3).result[0]
    windows = clip.tokenize(prompt)["l"]
    assert len(windows) == 1 and all(weight == 1.0 for _, weight in windows[0])


# ---- pool


def test_a_bad_picture_is_reported_and_the_rest_is_built(built, pool):
    assert len(pool) == COUNT
    assert "12 items" in built.result[1] and "broken" in built.result[1]


def test_progress_reaches_the_number_of_items_and_stopping_resumes(catalogue, clip, vision, monkeypatch):
    encoded = []
    original = ComfyEncoders.encode_images
    monkeypatch.setattr(
        ComfyEncoders, "encode_images", lambda self, images: encoded.append(len(images)) or original(self, images)
    )

    def stop():
        if sum(encoded) > 6:
            raise comfy.model_management.InterruptProcessingException

    import pack.iamg.pool_builder as builder

    defaults = builder.build_pool.__kwdefaults__
    monkeypatch.setitem(defaults, "batch_size", 4)
    monkeypatch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", stop)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        IAMGPoolBuilder.execute("films", "stopped", clip, vision, POSTER, TAGGER, "center_crop")
    first = sum(encoded)
    encoded.clear()
    monkeypatch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", lambda: None)
    pool = IAMGPoolBuilder.execute("films", "stopped", clip, vision, POSTER, TAGGER, "center_crop").result[0]
    assert len(pool) == COUNT
    assert first < COUNT and sum(encoded) <= 1 + COUNT - 4  # the fingerprint's probe, and no finished batch again


@pytest.mark.parametrize("name", ["../out", "a/b", "", ".hidden", "/tmp/x"])
def test_a_pool_name_cannot_leave_its_folder(catalogue, clip, vision, name):
    with pytest.raises(ValueError, match="plain folder name"):
        IAMGPoolBuilder.execute("films", name, clip, vision, POSTER, TAGGER, "center_crop")


def test_an_empty_folder_says_what_was_expected(comfy_folders, clip, vision):
    (comfy_folders / "input" / "empty").mkdir(exist_ok=True)
    with pytest.raises(ValueError, match="metadata"):
        IAMGPoolBuilder.execute("empty", "none", clip, vision, POSTER, TAGGER, "center_crop")
    assert not (comfy_folders / "pools" / "none").exists()


# ---- history


def test_a_users_history_is_newest_first_and_before_the_objective(pool, catalogue):
    node = IAMGUserHistory.execute(pool, "films/interactions.csv", "ada", "m6", 4, 4.0)
    tags, pictures, image, text, own, objective = node.result
    assert objective == "m6" and "number 6" in text
    assert [item["item_id"] for item in node.ui["iamg"][0]["history"]] == ["m5", "m4", "m3", "m2"]
    assert [("odd" in item.text, "even" in item.text) for item in tags] == [(True, False), (False, True)] * 2
    assert "even" in own[0].text and pictures.shape == (4, 512, 512, 3)
    torch.testing.assert_close(image, to_tensor(drawn(6)))


def test_a_blank_objective_is_the_latest_liked(pool, catalogue):
    assert IAMGUserHistory.execute(pool, "films/interactions.csv", "ada", " ", 5, 4.0).result[5] == "m7"


def test_too_little_history_and_unknown_users_are_named(pool, catalogue):
    with pytest.raises(ValueError, match="'bo' has 2"):
        IAMGUserHistory.execute(pool, "films/interactions.csv", "bo", "", 5, 4.0)
    with pytest.raises(ValueError, match="'nobody'"):
        IAMGUserHistory.execute(pool, "films/interactions.csv", "nobody", "", 5, 4.0)


def test_a_picture_that_is_gone_says_where_it_should_be(pool, catalogue, tmp_path):
    lonely = catalogue.parent / "elsewhere"
    lonely.mkdir(exist_ok=True)
    (lonely / "interactions.csv").write_bytes((catalogue / "interactions.csv").read_bytes())
    with pytest.raises(FileNotFoundError, match="'6.png' of item 'm6' is not beside 'interactions.csv'"):
        IAMGUserHistory.execute(pool, "elsewhere/interactions.csv", "ada", "m7", 5, 4.0)


# ---- retrieval and IRA


def test_the_neighbours_are_those_of_brute_force(pool, clip, vision):
    retrieved = retrieve(pool, clip, vision, leave_out_id="m0").result[0]
    encoders = ComfyEncoders(clip, vision, "center_crop")
    kept = [f"m{n}" for n in range(1, COUNT)]

    def ranked(query, vectors):
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors @ (query / np.linalg.norm(query))

    pictures = ranked(
        encoders.encode_images([drawn(0)])[0], encoders.encode_images([drawn(n) for n in range(1, COUNT)])
    )
    texts = [pool.item(item_id).description for item_id in kept]
    words = ranked(encoders.encode_texts(["A story of number 3"])[0], encoders.encode_texts(texts))
    for neighbours, scores in ((retrieved.image_neighbours, pictures), (retrieved.text_neighbours, words)):
        scores = {item: score for item, score, picture in zip(kept, scores, pictures, strict=True) if picture < 0.985}
        best = sorted(scores.values(), reverse=True)[:5]
        np.testing.assert_allclose([x.similarity for x in neighbours], best, atol=2e-3)
        np.testing.assert_allclose([scores[x.item.item_id] for x in neighbours], best, atol=2e-3)


def test_the_objective_never_finds_itself_unless_asked_to(pool, clip, vision):
    def found(**options):
        retrieved = retrieve(pool, clip, vision, picture=4, text=pool.item("m4").description, **options).result[0]
        return [{x.item.item_id for x in y} for y in (retrieved.text_neighbours, retrieved.image_neighbours)]

    assert all("m4" not in ids for ids in found(leave_out_id="m4"))
    assert all("m4" not in ids for ids in found())  # its picture is its own near-duplicate
    assert all("m4" in ids for ids in found(leave_out_id="m4", leave_one_out=False))


def test_what_is_retrieved_has_the_shapes_of_the_method(pool, clip, vision):
    retrieved, pictures = retrieve(pool, clip, vision, top_k=3).result
    assert retrieved.text_tokens.shape == (1, 77, 768) and retrieved.pooled.shape == (1, 768)
    assert retrieved.retrieved_text.shape == (3, 77, 768)
    assert retrieved.image_embeds.shape == (3, rig.IMAGE_WIDTH)
    assert pictures.shape == (6, 256, 256, 3)
    text = retrieved.text_neighbours[1].item.description
    torch.testing.assert_close(
        retrieved.retrieved_text[1:2], clip.encode_from_tokens(clip.tokenize(text)), atol=1e-5, rtol=1e-5
    )


def test_k_larger_than_the_pool_is_refused(pool, clip, vision):
    with pytest.raises(ValueError, match="pool 'films'.*lower k"):
        retrieve(pool, clip, vision, top_k=50)


def test_a_pool_of_other_encoders_is_refused_by_name(pool, clip, vision):
    with pytest.raises(ValueError, match="pool 'films'.*text encoder"):
        retrieve(pool, rig.small_clip(seed=60), vision)
    with pytest.raises(ValueError, match="pool 'films'.*image encoder"):
        retrieve(pool, clip, rig.small_clip_vision(seed=70))
    with pytest.raises(ValueError, match="64-d.*96-d"):
        retrieve(pool, clip, rig.small_clip_vision(width=96))


def test_ira_explains_what_it_fused(pool, clip, vision, tmp_path):
    adapter = rig.adapter(rig.small_model(), tmp_path)
    retrieved = retrieve(pool, clip, vision).result[0]
    node = IRAFuse.execute(adapter, retrieved, "tokens")
    interest, explanation, picture = node.result
    with on_device(adapter) as (weights, _):
        expected = weights.ira(
            retrieved.text_tokens, retrieved.retrieved_text[None], weights.project_image(retrieved.image_embeds)[None]
        )
    torch.testing.assert_close(interest, expected.tokens)
    data = node.ui["iamg"][0]
    assert data["trained"] and sum(x["attention"] for x in data["image"]) == pytest.approx(1, abs=1e-3)
    for neighbour in (*retrieved.text_neighbours, *retrieved.image_neighbours):
        assert neighbour.item.title in explanation
    assert picture.ndim == 4 and picture.std() > 0
    assert IRAFuse.execute(adapter, retrieved, "pooled").result[0].shape == (1, 1, 768)


def test_pictures_alone_can_be_the_pool(comfy_folders, clip, vision):
    images = {f"image{n}": to_tensor(drawn(n, (50 + 10 * n, 80))) for n in range(4)}
    pool = IAMGPoolFromPictures.execute(clip, vision, POSTER, "one\ntwo\nthree\nfour", images).result[0]
    retrieved = retrieve(pool, clip, vision, picture=9, top_k=3).result[0]
    assert len(pool) == 4 and len(retrieved.image_neighbours) == 3
    with pytest.raises(ValueError, match="4 pictures but 1 lines"):
        IAMGPoolFromPictures.execute(clip, vision, POSTER, "one", images)


# ---- foreground


def test_a_foreground_stands_on_white():
    image = torch.zeros(1, 8, 8, 3)
    mask = torch.zeros(1, 4, 4)
    mask[:, :, 2:] = 1
    cut, note = IAMGForeground.execute(image, mask).result
    assert torch.equal(cut[:, :, 0], torch.ones(1, 8, 3)) and torch.equal(cut[:, :, -1], torch.zeros(1, 8, 3))
    assert "50%" in note
    whole, note = IAMGForeground.execute(image).result
    assert whole is image and "No mask" in note
    with pytest.raises(ValueError, match="2 masks do not fit 3 pictures"):
        IAMGForeground.execute(image.expand(3, -1, -1, -1), mask.expand(2, -1, -1))


# ---- what a workflow may reach


@pytest.mark.parametrize("path", ["../interactions.csv", "/etc/passwd", "films/../../x.csv"])
def test_a_path_that_leads_out_of_input_is_refused(pool, path):
    with pytest.raises(ValueError, match="inside|outside|leads"):
        IAMGUserHistory.execute(pool, path, "ada", "", 5, 4.0)


def test_a_broken_scenario_file_is_logged_and_the_others_stay(comfy_folders, monkeypatch, caplog):
    folder = comfy_folders / "scenarios"
    folder.mkdir(exist_ok=True)
    (folder / "broken.toml").write_text("[album cover]\nphi = 3")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "iamg_scenarios", ([str(folder)], {".toml"}))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    assert "movie poster" in scenarios() and "broken.toml" in caplog.text
