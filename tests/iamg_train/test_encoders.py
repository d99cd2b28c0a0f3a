"""The CLI's encoders against transformers' own CLIP, read from every layout of file that ComfyUI reads."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms.functional import center_crop, resize
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from iamg.clip_pixels import PIXEL_MEAN, PIXEL_STD, clip_pixels
from iamg.crop import prepare
from iamg.fingerprint import agree
from iamg_train.clip_files import read_weights, vision_model
from iamg_train.encoders import (
    ClipEncoders,
    ClipTokenizer,
    TextEncoder,
    VisionEncoder,
    text_fingerprint,
    vision_fingerprint,
    weights_fingerprint,
)

TEXTS = ["a red fox (1995)", "word " * 200, ""]


@pytest.fixture(scope="module")
def reference() -> CLIPModel:
    """A small CLIP of random weights, with heads of 64 and the GELU of OpenAI's."""
    torch.manual_seed(0)
    text = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**text, "image_size": 56, "patch_size": 14}
    ends = {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    config = CLIPConfig(text_config={**text, **ends}, vision_config=vision, projection_dim=32)
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


@pytest.fixture(scope="module")
def files(reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    weights = {key: tensor.contiguous() for key, tensor in reference.state_dict().items() if "position_ids" not in key}
    text = {key: tensor for key, tensor in weights.items() if key.startswith("text_model.")}
    vision = {key: tensor for key, tensor in weights.items() if key.startswith(("vision_model.", "visual_projection."))}
    save_file({f"cond_stage_model.transformer.{key}": x for key, x in text.items()}, folder / "sd15.safetensors")
    save_file(text, folder / "clip_l.safetensors")
    save_file(vision, folder / "vision.safetensors")
    torch.save(vision, folder / "vision.bin")
    save_file(open_clip_names(vision), folder / "open_clip.safetensors")
    return folder


def open_clip_names(vision: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tower as open_clip stores it, written by hand from open_clip's modules."""
    own = {"visual.proj": vision["visual_projection.weight"].T.contiguous()}
    inner = {key.removeprefix("vision_model."): tensor for key, tensor in vision.items()}
    own["visual.class_embedding"] = inner["embeddings.class_embedding"]
    own["visual.conv1.weight"] = inner["embeddings.patch_embedding.weight"]
    own["visual.positional_embedding"] = inner["embeddings.position_embedding.weight"]
    for kind in ("weight", "bias"):
        own[f"visual.ln_pre.{kind}"] = inner[f"pre_layrnorm.{kind}"]
        own[f"visual.ln_post.{kind}"] = inner[f"post_layernorm.{kind}"]
        for layer in range(2):
            theirs, ours = f"visual.transformer.resblocks.{layer}", f"encoder.layers.{layer}"
            parts = [inner[f"{ours}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            own[f"{theirs}.attn.in_proj_{kind}"] = torch.cat(parts)
            own[f"{theirs}.attn.out_proj.{kind}"] = inner[f"{ours}.self_attn.out_proj.{kind}"]
            own[f"{theirs}.ln_1.{kind}"] = inner[f"{ours}.layer_norm1.{kind}"]
            own[f"{theirs}.ln_2.{kind}"] = inner[f"{ours}.layer_norm2.{kind}"]
            own[f"{theirs}.mlp.c_fc.{kind}"] = inner[f"{ours}.mlp.fc1.{kind}"]
            own[f"{theirs}.mlp.c_proj.{kind}"] = inner[f"{ours}.mlp.fc2.{kind}"]
    return own


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("checkpoint", ["sd15.safetensors", "clip_l.safetensors"])
def test_text_keys_are_the_end_tokens_rows_of_transformers(reference, files, checkpoint):
    encoders = ClipEncoders(files / checkpoint, files / "vision.safetensors")
    tokens = encoders.tokenizer(TEXTS)
    with torch.inference_mode():
        expected = reference.text_model(input_ids=tokens).pooler_output
    assert np.allclose(encoders.encode_texts(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize("file", ["vision.safetensors", "vision.bin", "open_clip.safetensors"])
def test_image_embeddings_are_those_of_transformers(reference, files, file):
    encoders = ClipEncoders(files / "clip_l.safetensors", files / file)
    pictures = [picture(80, 120), picture(56, 56)]
    pixels = torch.cat([clip_pixels(prepare(p, "center_crop"), 56, cut_center=True) for p in pictures])
    with torch.inference_mode():
        expected = reference.visual_projection(reference.vision_model(pixel_values=pixels).pooler_output)
    assert np.allclose(encoders.encode_images(pictures), expected, atol=1e-5)


@pytest.mark.parametrize(("width", "heads", "activation"), [(1280, 16, "gelu"), (1024, 16, "quick_gelu")])
def test_heads_and_activation_follow_from_the_width_as_in_comfyui(width, heads, activation):
    """ViT-H and ViT-L of one thin layer, against clip_vision_config_h.json and clip_vision_config_vitl.json."""
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=heads,
        hidden_act=activation,
        image_size=28,
        patch_size=14,
        projection_dim=8,
    )
    expected = CLIPVisionModelWithProjection(config).eval()
    with torch.inference_mode():
        for parameter in expected.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        pixels = torch.randn(1, 3, 28, 28)
        given = vision_model(expected.state_dict(), "tower")(pixel_values=pixels).image_embeds
        assert torch.allclose(given, expected(pixel_values=pixels).image_embeds, atol=1e-4)


def test_tokens_are_the_rows_after_the_final_norm_and_end_where_the_text_ends(reference, files):
    encoder = TextEncoder(files / "sd15.safetensors")
    tokens = encoder.tokenizer(TEXTS)
    with torch.inference_mode():
        expected = reference.text_model(input_ids=tokens).last_hidden_state
    torch.testing.assert_close(encoder.encode_tokens(TEXTS), expected, rtol=0, atol=1e-5)
    assert encoder.end_of(TEXTS).tolist() == [row.tolist().index(49407) for row in tokens] == [10, 76, 1]


def test_each_tower_is_loaded_without_the_other(files):
    both = ClipEncoders(files / "sd15.safetensors", files / "vision.safetensors", "pad")
    text, vision = TextEncoder(files / "sd15.safetensors"), VisionEncoder(files / "vision.safetensors", "pad")
    assert np.array_equal(text.encode_texts(TEXTS), both.encode_texts(TEXTS))
    assert np.array_equal(vision.encode_images([picture(80, 120)]), both.encode_images([picture(80, 120)]))


def test_the_same_tower_has_one_fingerprint_in_every_layout_of_file(files):
    texts = {text_fingerprint(files / name) for name in ("sd15.safetensors", "clip_l.safetensors")}
    layouts = ("vision.safetensors", "vision.bin", "open_clip.safetensors")
    visions = {vision_fingerprint(files / name) for name in layouts}
    assert len(texts) == len(visions) == 1 and texts != visions
    with pytest.raises(ValueError, match="vision.safetensors holds no CLIP text tower"):
        text_fingerprint(files / "vision.safetensors")
    with pytest.raises(ValueError, match="clip_l.safetensors is no CLIP Vision file"):
        vision_fingerprint(files / "clip_l.safetensors")


def test_a_fingerprint_tells_every_change_of_the_weights_and_nothing_else():
    weights = {"a": torch.arange(12.0).view(3, 4), "b": torch.tensor(2.0), "c": torch.ones(2).bfloat16()}
    strided = {"c": torch.ones(1).bfloat16().expand(2), "a": weights["a"].T.contiguous().T, "b": weights["b"]}
    changes = (
        {"a": weights["a"].clone().index_fill_(0, torch.tensor(2), 1.0)},
        {"a": weights["a"].view(4, 3)},
        {"a": weights["a"].half()},
        {"b": torch.tensor(2.0000002)},
        {"c": torch.ones(2).half()},
        {"d": weights["b"]},
    )
    fingerprints = {weights_fingerprint(weights | change) for change in changes}
    assert weights_fingerprint(weights) == weights_fingerprint(strided) and len(weights_fingerprint(weights)) == 32
    assert len(fingerprints | {weights_fingerprint(weights)}) == len(changes) + 1


def test_half_precision_gives_nearly_the_same_embeddings(files):
    full = ClipEncoders(files / "clip_l.safetensors", files / "vision.safetensors")
    half = ClipEncoders(files / "clip_l.safetensors", files / "vision.safetensors", dtype=torch.bfloat16)
    pictures = [picture(80, 120), picture(56, 56)]
    assert agree(full.encode_texts(TEXTS)[0], half.encode_texts(TEXTS)[0])
    assert agree(full.encode_images(pictures)[0], half.encode_images(pictures)[0])
    assert not agree(full.encode_texts(TEXTS)[0], half.encode_texts(TEXTS)[1])


@pytest.mark.parametrize(("width", "height"), [(100, 150), (300, 100), (224, 224)])
def test_pixels_are_cut_and_scaled_as_torchvision_does(width, height):
    image = prepare(picture(width, height), "center_crop")
    scaled = center_crop(resize(image.movedim(-1, 1), 224, interpolation=3, antialias=True), [224, 224])
    expected = (scaled.clip(0, 1) - torch.tensor(PIXEL_MEAN).view(3, 1, 1)) / torch.tensor(PIXEL_STD).view(3, 1, 1)
    rounding = 0.5 / 255 / min(PIXEL_STD)
    assert (clip_pixels(image, 224, cut_center=True) - expected).abs().max() <= rounding + 1e-5


def test_pad_sets_the_picture_on_a_white_square():
    padded = prepare(Image.new("RGB", (4, 8), "black"), "pad")
    assert padded.shape == (1, 8, 8, 3)
    assert padded[0, :, :2].min() == 1 and padded[0, :, 2:6].max() == 0 and padded[0, :, 6:].min() == 1


def test_squash_keeps_what_center_crop_cuts_away():
    image = Image.new("RGB", (56, 112), "black")
    image.paste("red", (0, 0, 56, 14))
    cropped, squashed = (clip_pixels(prepare(image, "squash"), 56, cut) for cut in (True, False))
    assert cropped[0, 0].std() < 1e-6 < squashed[0, 0].std()


def test_an_unknown_crop_is_refused():
    with pytest.raises(ValueError, match="'middle'.*center_crop, pad, squash"):
        prepare(Image.new("RGB", (4, 4)), "middle")


def test_tokens_are_padded_with_end_tokens_and_cut_to_the_window():
    tokenizer = ClipTokenizer()
    rows = tokenizer(["hello", "word " * 200])
    assert rows.shape == (2, 77)
    assert rows[0].tolist() == [49406, 3306] + [49407] * 75  # "hello</w>" in OpenAI's vocabulary
    assert rows[1, -1] == 49407 and (rows[1, 1:-1] == rows[1, 1]).all()
    assert tokenizer.count("hello, hello") == 3


def test_fit_text_keeps_a_text_that_fits_and_cuts_one_that_does_not(files):
    encoders = ClipEncoders(files / "clip_l.safetensors", files / "vision.safetensors")
    assert encoders.fit_text("A short text.") == "A short text."
    fitted = encoders.fit_text("One sentence of words. " * 40)
    assert 0 < encoders.tokenizer.count(fitted) <= 75


def test_errors_name_the_file_and_what_it_lacks(files, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.safetensors does not exist"):
        read_weights(tmp_path / "nowhere.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(ValueError, match="broken.safetensors cannot be read as weights"):
        read_weights(tmp_path / "broken.safetensors")
    with pytest.raises(ValueError, match="vision.safetensors holds no CLIP text tower"):
        ClipEncoders(files / "vision.safetensors", files / "vision.safetensors")
    with pytest.raises(ValueError, match="clip_l.safetensors is no CLIP Vision file with projection"):
        ClipEncoders(files / "clip_l.safetensors", files / "clip_l.safetensors")
    weights = read_weights(files / "vision.safetensors")
    del weights["vision_model.encoder.layers.1.mlp.fc2.bias"]
    with pytest.raises(ValueError, match=r"cut.safetensors lacks 1 tensor.*layers.1.mlp.fc2.bias"):
        vision_model(weights, "cut.safetensors")


def test_a_pickled_object_in_a_bin_file_is_refused(tmp_path):
    torch.save({"weights": picture}, tmp_path / "evil.bin")  # a function: only a full unpickler would load it
    with pytest.raises(ValueError, match="evil.bin cannot be read as weights"):
        read_weights(tmp_path / "evil.bin")
