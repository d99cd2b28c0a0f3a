"""The evaluation's pictures: each against the method done by hand, what they depend on, and what a stopped run keeps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small_mini import evaluation, write_mini

from iamg.adapter import load_adapter
from iamg.foreground import on_white
from iamg.interests import rewrite
from iamg.pictures import open_picture
from iamg.pool import EmbeddingPool, LeaveOut
from iamg.prompt_text import fit_text
from iamg.scenarios import load_scenarios
from iamg_train.diffusion_files import load_unet, load_vae
from iamg_train.encoders import ClipEncoders
from iamg_train.histories import Split
from iamg_train.mini import drawing, evaluate
from iamg_train.mini.case_samples import prepare_cases
from iamg_train.mini.cases import choose_cases
from iamg_train.mini.drawing import CasePictures, Drawing
from iamg_train.mini.evaluation_arguments import weights_of
from iamg_train.mini.variants import FULL, HISTORY, ITEM, STOCK, TEXTS, TRAINED, VARIANTS, Variant
from iamg_train.mini.world import MASKS, TEST_FRACTION, read_world
from iamg_train.objectives import Objectives
from iamg_train.personalised_unet import Conditions, PersonalisedUNet
from iamg_train.pool_commands import progress_bar
from iamg_train.sampling import draw_latents

USERS, SEEDS = 3, 2
NAMED = {x.name: x for x in VARIANTS}
LESS = Variant("less", interest_tags=1, top_k=2, text_weight=0.5)
CHECKED = (*VARIANTS, LESS)
HOW = Drawing(steps=2, guidance_scale=4.0, seed=0)


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    return write_mini(tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="module")
def samples_of(mini, tmp_path_factory):
    arguments = evaluation(mini, tmp_path_factory.mktemp("out"))
    config = evaluate._config(arguments, "mini poster")
    with EmbeddingPool.open(mini["pool"]) as pool, progress_bar() as bar:
        objectives, world = Objectives(config.data.items, pool), read_world(mini["world"])
        cases = choose_cases(config.data, world, pool, objectives, Split(TEST_FRACTION), USERS, 0)
        return cases, prepare_cases(config, cases, CHECKED, pool, objectives, bar), weights_of(arguments)


@pytest.fixture(scope="module")
def drawn(samples_of, tmp_path_factory):
    _, samples, weights = samples_of
    pictures = CasePictures(tmp_path_factory.mktemp("pictures"), samples, HOW, weights)
    pictures.draw(pictures.missing([(x, SEEDS) for x in CHECKED]), lambda done: None)
    return pictures


def by_hand(mini, variant, history, noise):
    """The picture of a history under a variant: the method, a function after the other."""
    encoders = ClipEncoders(mini["checkpoint"], mini["clip_vision"])
    count, held_out = encoders.tokenizer.count, Split(TEST_FRACTION).is_test_item
    with EmbeddingPool.open(mini["pool"]) as pool:
        item, liked = pool.item(history.objective), [pool.item(x).tags for x in history.items]
        rewritten = rewrite(
            item.description, item.tags, liked, load_scenarios()["mini poster"], count, variant.interest_tags
        ).text
        row = pool.image_embeds([item.row])[0]
        leave_out = LeaveOut(item.item_id, row) if variant.leave_one_out else None

        def nearest(search, query):
            found = [x.item for x in search(query, 30, leave_out)]
            return [x for x in found if not (variant.leave_one_out and held_out(x.item_id))][: variant.top_k]

        near_texts = nearest(pool.search_text, encoders.encode_texts([rewritten])[0])
        pictures = {
            ITEM: nearest(pool.search_image, row),
            TEXTS: near_texts,
            HISTORY: [pool.item(x) for x in history.items][: variant.top_k],
        }[variant.pictures_of]
        embeds = torch.from_numpy(pool.image_embeds([x.row for x in pictures]))
    picture = torch.from_numpy(np.asarray(open_picture(mini["world"] / item.picture)) / np.float32(255))[None]
    if variant.foreground:
        mask = open_picture(mini["world"] / MASKS / f"{item.item_id}.png").convert("L")
        picture = on_white(picture, torch.from_numpy(np.asarray(mask) / np.float32(255))[None])
    condition = Image.fromarray((picture[0] * 255).round().byte().numpy())
    tokens = encoders.encode_tokens([rewritten])
    conditions = Conditions(
        text=tokens if variant.rewritten else encoders.encode_tokens([fit_text(item.description, count)]),
        image_embeds=torch.from_numpy(encoders.encode_images([condition])),
        query=tokens,
        retrieved_text=encoders.encode_tokens([fit_text(x.description, count) for x in near_texts])[None],
        retrieved_image=embeds[None],
        interest_weight=torch.tensor([variant.interest_weight]),
    )
    adapter = load_adapter(mini["ip_adapter" if variant.weights == STOCK else "adapter"])
    model = PersonalisedUNet(load_unet(mini["checkpoint"]), adapter, variant.image_weight, variant.text_weight)
    latents = draw_latents(model, conditions, encoders.encode_tokens([""])[0], noise, HOW.steps, HOW.guidance_scale)
    return (load_vae(mini["checkpoint"]).decode(latents)[0] * 255).round().movedim(0, -1).numpy().astype(int)


@pytest.mark.parametrize("variant", CHECKED, ids=lambda x: x.name)
def test_a_picture_is_what_its_variant_says_done_by_hand(variant, mini, samples_of, drawn):
    cases, _, _ = samples_of
    noise = drawing._noise(f"0 {cases[1].own.user_id} 1", (4, 8, 8))[None]
    expected = by_hand(mini, variant, cases[1].own, noise)
    assert np.abs(drawn.of(variant, SEEDS, own=True)[1, 1].astype(int) - expected).max() <= 1
    other = by_hand(mini, variant, cases[1].other, noise)  # the user's noise, the other's history
    assert np.abs(drawn.of(variant, SEEDS, own=False)[1, 1].astype(int) - other).max() <= 1


def test_no_two_variants_draw_the_same(drawn):
    pictures = {x.name: drawn.of(x, SEEDS, own=True) for x in CHECKED}
    same = [(a, b) for a in pictures for b in pictures if a < b and np.array_equal(pictures[a], pictures[b])]
    assert not same


def test_what_depends_on_no_history_is_drawn_once(samples_of, drawn, tmp_path):
    _, samples, weights = samples_of
    alone = ("base model", "base + picture")
    for name, variant in NAMED.items():
        own, other = (drawn.of(variant, SEEDS, own=x) for x in (True, False))
        assert np.array_equal(own, other) == (name in alone)
    pictures = CasePictures(tmp_path, samples, HOW, weights)
    for name, variant in NAMED.items():
        assert len(pictures.missing([(variant, SEEDS)])) == USERS * SEEDS * (1 if name in alone else 2)
    twice = [(FULL, 1), (replace(FULL, name="λ2 = 0.2"), SEEDS)]
    assert len(pictures.missing(twice)) == 2 * USERS * SEEDS


def test_a_stopped_run_goes_on_where_it_was(samples_of, drawn, tmp_path, monkeypatch):
    _, samples, weights = samples_of
    monkeypatch.setattr(drawing, "TOGETHER", 3)
    pictures, wanted = CasePictures(tmp_path, samples, HOW, weights), [(FULL, SEEDS)]

    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pictures.draw(pictures.missing(wanted), stop)
    again = CasePictures(tmp_path, samples, HOW, weights)
    missing = again.missing(wanted)
    assert len(missing) == 2 * USERS * SEEDS - 3
    told = []
    again.draw(missing, told.append)
    assert told == [3, 6, 9] and not again.missing(wanted)
    for own in (True, False):
        # In other batches sums are rounded otherwise.
        difference = again.of(FULL, SEEDS, own).astype(int) - drawn.of(FULL, SEEDS, own)
        assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    "change", [{"steps": 3}, {"guidance_scale": 3.0}, {"seed": 1}, {"weights": TRAINED}, {"weights": "checkpoint"}]
)
def test_under_other_settings_or_weights_everything_is_drawn_anew(change, samples_of, drawn, mini, tmp_path):
    _, samples, weights = samples_of
    assert not drawn.missing([(FULL, SEEDS)])
    if name := change.get("weights"):
        content = weights[name].read_bytes()
        (tmp_path / "other.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        changed = CasePictures(drawn._drawn.folder, samples, HOW, weights | {name: tmp_path / "other.safetensors"})
    else:
        changed = CasePictures(drawn._drawn.folder, samples, HOW._replace(**change), weights)
    assert len(changed.missing([(FULL, SEEDS)])) == 2 * USERS * SEEDS


def test_pictures_that_overflow_are_refused(samples_of, drawn, tmp_path):
    _, samples, weights = samples_of
    pictures = CasePictures(tmp_path, samples, HOW._replace(guidance_scale=float("inf")), weights)
    with pytest.raises(RuntimeError, match="of 'full method' are not finite"):
        pictures.draw(pictures.missing([(FULL, 1)]), lambda done: None)
    assert len(pictures.missing([(FULL, 1)])) == 2 * USERS
