"""What the cache gives is what the encoders give, and nothing is encoded twice."""

import gc
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import xxhash
from diffusers import AutoencoderTiny
from PIL import Image
from small_models import write_family
from torchvision.transforms.functional import center_crop, resize
from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

from iamg_train.diffusion_files import load_vae
from iamg_train.encoders import TextEncoder, VisionEncoder
from iamg_train.input_cache import TextCache, fill_caches, training_pixels
from iamg_train.prepared import Prepared, Sample, write_prepared

RESOLUTION = 32
TEXTS = ["a red fox", "a long night " * 40, "Amélie – a fox", ""]


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return write_family(tmp_path_factory.mktemp("family"))


@pytest.fixture
def data(tmp_path) -> tuple[Prepared, list[Sample]]:
    """Three users, two items, one of them with a mask for its foreground."""
    items, folder = tmp_path / "items", tmp_path / "prepared"
    (folder / "foregrounds").mkdir(parents=True)
    items.mkdir()
    for number in range(2):
        picture(number).save(items / f"m{number}.png")
    Image.new("L", (10, 15), "white").crop((-3, -3, 10, 15)).save(folder / "foregrounds" / "m1.png")
    samples = [sample(items, user) for user in range(3)]
    write_prepared(folder, samples, parameters(), {}, {"n0": np.ones(24, np.float32)})
    return Prepared.open(folder, items), samples


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (120, 80, 3), dtype=np.uint8))


def parameters() -> dict:
    return {"history_length": 1, "interest_tags": 8, "top_k": 1}


def sample(items, user: int) -> Sample:
    name = f"m{user % 2}.png"
    return Sample(
        split="train",
        user_id=f"u{user}",
        objective=name[:2],
        history=("h",),
        text=f"A film, maybe related to {user}",
        item_text=f"A film {name}",
        retrieved_texts=("shared neighbour", f"neighbour of {name}"),
        retrieved_ids=("n0",),
        retrieved_text_ids=("n0", "n1"),
        picture=name,
        picture_hash=xxhash.xxh3_128_hexdigest((items / name).read_bytes()),
        foreground="foregrounds/m1.png" if name == "m1.png" else None,
    )


def fill(data, family, folder, samples=None, crop="center_crop", resolution=RESOLUTION, dtype=torch.float32, **options):
    """The cache, and how many rows of each stage were encoded for it."""
    prepared, all_samples = data
    encoded = Counter()

    def count(stage, done, total):
        encoded[stage] = done
        assert done <= total

    files = family["checkpoint"], family["clip_vision"]
    cache = fill_caches(
        prepared,
        samples or all_samples,
        *files,
        crop,
        folder,
        resolution,
        dtype,
        batch_size=1,
        progress=count,
        **options,
    )
    return cache, dict(encoded)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-3)])
def test_cached_texts_are_the_text_towers_rows(family, tmp_path, dtype, tolerance):
    cache = TextCache(tmp_path, family["checkpoint"], dtype)
    cache.ensure(TEXTS)
    encoder = TextEncoder(family["checkpoint"])
    assert cache.width == 64
    for text, tokens, pooled in zip(TEXTS, encoder.encode_tokens(TEXTS), encoder.encode_texts(TEXTS), strict=True):
        assert cache.tokens(text).dtype == torch.float32
        torch.testing.assert_close(cache.tokens(text), tokens, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(cache.pooled(text), pooled, rtol=tolerance, atol=tolerance)


def test_each_distinct_text_is_encoded_once(family, tmp_path, monkeypatch):
    encoded = []
    own = TextEncoder.encode_tokens
    monkeypatch.setattr(TextEncoder, "encode_tokens", lambda self, texts: encoded.extend(texts) or own(self, texts))
    cache = TextCache(tmp_path, family["checkpoint"])
    cache.ensure(TEXTS * 2)
    cache.ensure(["a new one", *TEXTS])
    TextCache(tmp_path, family["checkpoint"]).ensure([*TEXTS, "a new one"])
    assert encoded == [*TEXTS, "a new one"]


def test_numbers_that_the_cache_cannot_hold_are_refused(family, tmp_path, monkeypatch):
    monkeypatch.setattr(TextEncoder, "encode_tokens", lambda self, texts: torch.full((len(texts), 77, 64), 1e5))
    TextCache(tmp_path, family["checkpoint"], torch.float32).ensure(["a"])
    cache = TextCache(tmp_path, family["checkpoint"], torch.float16)
    with pytest.raises(ValueError, match="torch.float16 cannot hold.*set cache_dtype to float32"):
        cache.ensure(["a"])
    assert len(cache.rows) == 0


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-2)])
def test_cached_inputs_are_the_encoders_outputs(data, family, tmp_path, dtype, tolerance):
    cache, encoded = fill(data, family, tmp_path / "cache", dtype=dtype)
    assert encoded == {"texts": 9, "latents": 2, "image embeddings": 2}  # texts: 3 T*, 2 T_i, 3 of Φ, the empty one
    prepared, samples = data
    vae, vision, text = (
        load_vae(family["checkpoint"]),
        VisionEncoder(family["clip_vision"]),
        TextEncoder(family["checkpoint"]),
    )
    assert cache.latent_shape == (4, 4, 4)
    for one in samples:
        pixels = np.asarray(prepared.open_picture(one).resize((32, 48), Image.Resampling.LANCZOS))[8:40]
        mean, deviation = vae.posterior(torch.from_numpy(pixels / 127.5 - 1).float().movedim(-1, 0)[None])
        for given, expected in zip(cache.posterior(one), (mean[0], deviation[0]), strict=True):
            torch.testing.assert_close(given, expected, rtol=tolerance, atol=tolerance)
        embeds = torch.from_numpy(vision.encode_images([prepared.condition_picture(one)])[0])
        torch.testing.assert_close(cache.image_embeds(one), embeds, rtol=tolerance, atol=tolerance)
        for words in (one.text, one.item_text, *one.retrieved_texts, ""):
            torch.testing.assert_close(
                cache.tokens(words), text.encode_tokens([words])[0], rtol=tolerance, atol=tolerance
            )
            assert cache.pooled(words).shape == (64,)


def test_a_full_cache_needs_no_encoder(data, family, tmp_path, monkeypatch):
    first, _ = fill(data, family, tmp_path / "cache")
    for name in ("TextEncoder", "VisionEncoder", "load_vae"):
        monkeypatch.setattr(f"iamg_train.input_cache.{name}", None)
    again, encoded = fill(data, family, tmp_path / "cache")
    assert encoded == {}
    for one in data[1]:
        assert torch.equal(torch.stack(again.posterior(one)), torch.stack(first.posterior(one)))
        assert torch.equal(again.image_embeds(one), first.image_embeds(one))


def test_a_changed_input_recomputes_only_itself(data, family, tmp_path):
    prepared, samples = data
    before, _ = fill(data, family, tmp_path / "cache")
    retold = [replace(samples[0], text="Another text"), *samples[1:]]
    assert fill(data, family, tmp_path / "cache", retold)[1] == {"texts": 1}

    Image.new("L", (4, 4), "black").save(prepared.folder / "foregrounds" / "m1.png")
    after, encoded = fill(data, family, tmp_path / "cache")
    assert encoded == {"image embeddings": 1}
    assert not torch.equal(after.image_embeds(samples[1]), before.image_embeds(samples[1]))
    assert torch.equal(after.image_embeds(samples[0]), before.image_embeds(samples[0]))

    picture(5).save(prepared.items / "m0.png")
    repainted = [sample(prepared.items, user) for user in range(3)]
    after, encoded = fill(data, family, tmp_path / "cache", repainted)
    assert encoded == {"latents": 1, "image embeddings": 1}
    assert not torch.equal(after.posterior(repainted[0])[0], before.posterior(samples[0])[0])


def test_other_encoders_and_settings_have_folders_of_their_own(data, family, tmp_path):
    fill(data, family, tmp_path / "cache")
    other = write_family(tmp_path / "other", seed=1)
    everything = {"texts": 9, "latents": 2, "image embeddings": 2}
    assert fill(data, other, tmp_path / "cache")[1] == everything
    assert fill(data, family, tmp_path / "cache", dtype=torch.float16)[1] == everything
    assert fill(data, family, tmp_path / "cache", resolution=16)[1] == {"latents": 2}
    assert fill(data, family, tmp_path / "cache", crop="pad")[1] == {"image embeddings": 2}
    assert fill(data, family, tmp_path / "cache")[1] == {}
    names = sorted(path.name.split("-")[0] for path in (tmp_path / "cache").iterdir())
    assert Counter(names) == {"texts": 3, "latents": 4, "images": 4}


def test_what_was_encoded_before_an_error_is_kept(data, family, tmp_path):
    prepared, _ = data
    whole = (prepared.items / "m1.png").read_bytes()
    (prepared.items / "m1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="m1.png cannot be read"):
        fill(data, family, tmp_path / "cache")
    (prepared.items / "m1.png").write_bytes(whole)
    assert fill(data, family, tmp_path / "cache")[1] == {"latents": 1, "image embeddings": 2}


def test_one_encoder_at_a_time_is_in_memory_and_none_after(data, family, tmp_path):
    encoders = (CLIPTextModelWithProjection, AutoencoderTiny, CLIPVisionModelWithProjection)

    def alive() -> list[int]:
        objects = gc.get_objects()
        return [sum(isinstance(x, kind) for x in objects) for kind in encoders]

    gc.collect()
    before, seen = alive(), {}
    prepared, samples = data

    def look(stage, done, total):
        seen[stage] = [now - then for now, then in zip(alive(), before, strict=True)]

    files = family["checkpoint"], family["clip_vision"]
    fill_caches(prepared, samples, *files, "center_crop", tmp_path / "cache", RESOLUTION, progress=look)
    assert seen == {"texts": [1, 0, 0], "latents": [0, 1, 0], "image embeddings": [0, 0, 1]}
    assert alive() == before


@pytest.mark.parametrize("size", [(96, 144), (200, 100), (64, 64), (30, 45)])
def test_training_pixels_are_resized_and_cut_as_torchvision_does(size):
    image = picture(3).resize(size)
    expected = center_crop(resize(image, 64, interpolation=Image.Resampling.LANCZOS), [64, 64])
    expected = torch.from_numpy(np.asarray(expected) / 127.5 - 1).float().movedim(-1, 0)
    torch.testing.assert_close(training_pixels(image, 64), expected)


def test_training_pixels_cover_the_whole_range():
    pixels = training_pixels(Image.new("RGB", (70, 131), (255, 0, 51)), 64)
    assert pixels.shape == (3, 64, 64)
    assert [float(channel.unique()) for channel in pixels] == pytest.approx([1.0, -1.0, -0.6])
