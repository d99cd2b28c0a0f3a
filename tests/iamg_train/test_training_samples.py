"""What is drawn at random for an example: its item, noise, timestep, λ2, and what is dropped (D9, D10, Eq 15)."""

from collections import Counter

import pytest
import torch

from iamg_train.config import PRESETS, Drop
from iamg_train.personalised_unet import Conditions
from iamg_train.training_samples import SampleReader, TrainingSamples

ITEMS, TIMESTEPS = 7, 1000
EMPTY = torch.full((77, 3), -1.0)


class Inputs:
    """Encoded inputs that can be told apart: everything of item n is n + 1."""

    def tokens(self, text):
        return EMPTY if text == "" else torch.full((77, 3), float(text))

    def pooled(self, text):
        return torch.full((3,), float(text)).numpy()

    def image_embeds(self, sample):
        return torch.full((5,), float(sample.text))

    def posterior(self, sample):
        return torch.full((4, 2, 2), 100.0 * float(sample.text)), torch.full((4, 2, 2), 0.5)


class Item:
    def __init__(self, number):
        self.text = str(number + 1)
        self.retrieved_texts = tuple(str(10 * (number + 1) + place) for place in range(3))
        self.retrieved_ids = self.retrieved_texts


class Neighbours:
    def image_embeds(self, ids):
        return torch.tensor([[float(x)] * 5 for x in ids])


@pytest.fixture
def reader():
    return SampleReader(Neighbours(), Inputs(), top_k=2, query="tokens")


def samples(reader, drop=None, weight=0.2, seed=0, **options):
    drop = drop or Drop(joint=0.0)
    return TrainingSamples([Item(n) for n in range(ITEMS)], reader, drop, weight, seed, TIMESTEPS, **options)


def test_an_example_depends_on_the_seed_and_its_number_alone(reader):
    drop = Drop(joint=0.2, text=0.2)
    forwards = [samples(reader, drop)[n] for n in range(20)]
    shuffled = samples(reader, drop)
    for n in (13, 2, 19, 2, 0):
        for a, b in zip(flat(shuffled[n]), flat(forwards[n]), strict=True):
            assert torch.equal(a, b)
    other = samples(reader, drop, seed=1)[0]
    assert not torch.equal(other.noise, forwards[0].noise)


def flat(example):
    return [torch.as_tensor(x) for x in (*example[:4], *example.conditions)]


def test_every_pass_takes_each_item_once_in_an_order_of_its_own(reader):
    examples = samples(reader)
    passes = [[examples[n].index for n in range(epoch * ITEMS, (epoch + 1) * ITEMS)] for epoch in range(4)]
    assert all(sorted(order) == list(range(ITEMS)) for order in passes)
    assert len({tuple(order) for order in passes}) == 4


def test_latents_are_drawn_from_the_posterior(reader):
    examples = samples(reader)
    drawn = torch.stack([x.latents - 100.0 * (x.index + 1) for x in (examples[n] for n in range(600))])
    assert drawn.mean().abs() < 0.05 and abs(drawn.std() - 0.5) < 0.02


def test_timesteps_and_noise_have_their_distributions(reader):
    examples = [samples(reader)[n] for n in range(600)]
    steps = torch.tensor([x.timestep for x in examples]).float()
    assert steps.min() >= 0 and steps.max() < TIMESTEPS
    assert abs(steps.mean() - 499.5) < 5 * 288.7 / 600**0.5
    noise = torch.stack([x.noise for x in examples])
    assert noise.mean().abs() < 0.05 and abs(noise.std() - 1) < 0.05


def test_conditions_are_those_of_the_sample_and_its_k_nearest(reader):
    example = samples(reader)[3]
    own, conditions = float(example.index + 1), example.conditions
    assert (conditions.text == own).all() and (conditions.query == own).all() and (conditions.image_embeds == own).all()
    for retrieved in (conditions.retrieved_text, conditions.retrieved_image):
        assert [float(x.flatten()[0]) for x in retrieved] == [10 * own, 10 * own + 1]
    assert float(conditions.interest_weight) == pytest.approx(0.2)
    assert conditions.query.shape == (77, 3)


def test_a_pooled_query_is_one_row():
    pooled = SampleReader(Neighbours(), Inputs(), top_k=2, query="pooled")
    example = samples(pooled)[0]
    assert example.conditions.query.shape == (1, 3)
    assert (example.conditions.query == example.index + 1).all()


def test_a_control_asks_with_another_history_and_keeps_the_text_and_the_picture(reader):
    controls = [Item(n + 50) for n in range(ITEMS)]
    own, control = samples(reader)[4], samples(reader, asking=controls)[4]
    other = float(own.index + 51)
    assert torch.equal(own.noise, control.noise) and own.timestep == control.timestep and own.index == control.index
    assert torch.equal(own.conditions.text, control.conditions.text)
    assert torch.equal(own.conditions.image_embeds, control.conditions.image_embeds)
    assert (control.conditions.query == other).all() and (control.conditions.retrieved_text[0] == 10 * other).all()


def kind(example) -> tuple[bool, bool, bool]:
    """Whether text, picture and interest are D9's nothing."""
    conditions: Conditions = example.conditions
    return (
        torch.equal(conditions.text, EMPTY),
        not conditions.image_embeds.any(),
        not conditions.interest_weight.any(),
    )


@pytest.mark.parametrize("preset", ["paper", "robust"])
def test_conditions_are_dropped_as_often_as_the_preset_says(reader, preset):
    drop = Drop(**PRESETS[preset].get("drop", {}))
    count = 3000
    examples = samples(reader, drop)
    found = Counter(kind(examples[n]) for n in range(count))
    one = 0.0 if preset == "paper" else 0.05
    expected = {
        (True, True, True): 0.05,
        (True, False, False): one,
        (False, True, False): one,
        (False, False, True): one,
    }
    assert found.keys() <= {(False, False, False), *expected}
    for what, share in expected.items():
        assert abs(found[what] / count - share) <= 5 * (share * (1 - share) / count) ** 0.5


def test_a_range_of_weights_is_drawn_evenly(reader):
    examples = samples(reader, weight=(0.1, 0.4))
    weights = torch.tensor([float(examples[n].conditions.interest_weight) for n in range(1000)])
    assert weights.min() >= 0.1 and weights.max() <= 0.4
    assert [int(x) for x in torch.histc(weights, 3, 0.1, 0.4)] == pytest.approx([333, 333, 333], abs=75)


def test_what_is_drawn_for_one_thing_says_nothing_of_another(reader):
    """λ2, timestep and dropping of an example are independent."""
    examples = [samples(reader, Drop(joint=0.5), weight=(0.0, 1.0))[n] for n in range(800)]
    kept = [x for x in examples if not all(kind(x))]
    values = torch.tensor([[float(x.conditions.interest_weight), x.timestep, float(x.noise.mean())] for x in kept])
    correlations = torch.corrcoef(values.T)
    assert (correlations - torch.eye(3)).abs().max() < 5 / len(kept) ** 0.5
