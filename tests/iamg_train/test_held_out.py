"""The held-out loss, its control, and what is said of them."""

import math

import pytest
import torch
from diffusers import DDPMScheduler

from iamg_train.diffusion_loss import min_snr_weights, noise_prediction_losses
from iamg_train.held_out import HeldOut, measure
from iamg_train.personalised_unet import Conditions
from iamg_train.sampling import NOISE
from iamg_train.training_samples import Example

COUNT = 5


def example(number: int, query: float) -> Example:
    random = torch.Generator().manual_seed(number)
    conditions = Conditions(*(torch.zeros(1) for _ in Conditions._fields))._replace(query=torch.tensor([query]))
    return Example(
        number,
        torch.randn(4, 2, 2, generator=random),
        torch.randn(4, 2, 2, generator=random),
        100 * number,
        conditions,
    )


class Model(torch.nn.Module):
    """Predicts what it asks with, everywhere."""

    def forward(self, noisy, timesteps, conditions):
        return conditions.query[:, :, None, None].expand_as(noisy)


def by_hand(examples) -> torch.Tensor:
    return torch.stack([(x.noise - x.conditions.query).square().mean() for x in examples]).double()


def test_losses_and_their_paired_difference_are_those_by_hand():
    own, control = [example(n, 0.1) for n in range(9)], [example(n, 0.5) for n in range(9)]
    found = measure(Model(), own, control, COUNT, 2, DDPMScheduler(**NOISE), torch.device("cpu"))
    a, b = by_hand(own[:COUNT]), by_hand(control[:COUNT])
    assert found.held_out == pytest.approx(float(a.mean()))
    assert found.control == pytest.approx(float(b.mean()))
    assert found.difference == pytest.approx(float((b - a).mean()))
    spread = math.sqrt(float(((b - a) - (b - a).mean()).square().sum()) / (COUNT - 1))
    assert found.standard_error == pytest.approx(spread / math.sqrt(COUNT))


@pytest.mark.parametrize(
    ("difference", "error", "learned"),
    [(0.1, 0.01, True), (0.1, 0.06, False), (-0.1, 0.01, False), (0.0, 0.0, False), (0.1, math.inf, False)],
)
def test_the_verdict_wants_a_control_that_is_surely_worse(difference, error, learned):
    verdict = HeldOut(1.0, 1.0 + difference, difference, error).verdict()
    assert ("tells users apart" in verdict) == learned
    assert ("learned nothing" in verdict) == (not learned)


def test_eq_14_is_the_mean_square_of_what_is_not_predicted():
    """The model sees x_t = √ᾱ x_0 + √(1 - ᾱ) ε, and its loss is taken over channels and pixels of each picture."""
    seen = []

    class Remember(Model):
        def forward(self, noisy, timesteps, conditions):
            seen.append(noisy)
            return super().forward(noisy, timesteps, conditions)

    schedule, one = DDPMScheduler(**NOISE), example(3, 0.2)
    batch = torch.utils.data.default_collate([one])
    found = noise_prediction_losses(Remember(), batch, schedule)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)[300]
    expected = kept.sqrt() * one.latents + (1 - kept).sqrt() * one.noise
    torch.testing.assert_close(seen[0][0], expected.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, by_hand([one]).float())


def test_min_snr_holds_easy_timesteps_down():
    schedule = DDPMScheduler(**NOISE)
    steps = torch.tensor([0, 50, 500, 999])
    snr = schedule.alphas_cumprod[steps] / (1 - schedule.alphas_cumprod[steps])
    torch.testing.assert_close(min_snr_weights(schedule, steps, 5.0), torch.minimum(snr, torch.tensor(5.0)) / snr)
