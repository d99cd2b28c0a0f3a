"""The trainer's U-Net against Eq 10 to 13 written out, against diffusers' own IP-Adapter, and what of it trains."""

import math

import pytest
import torch
from diffusers import StableDiffusionPipeline
from small_models import CHANNELS, IMAGE_WIDTH, TEXT_WIDTH, TOKENS, adapter_state, write_family

from iamg.adapter import Adapter, load_adapter
from iamg_train.diffusion_files import load_unet
from iamg_train.personalised_unet import Conditions, DecoupledAttention, PersonalisedUNet, cross_attentions

ROWS, K = 2, 3


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return write_family(tmp_path_factory.mktemp("family"))


@pytest.fixture
def model(family):
    return PersonalisedUNet(load_unet(family["checkpoint"]), load_adapter(family["ip_adapter"]))


def conditions(interest_weight=0.2, seed=0):
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(ROWS, *shape, generator=random)

    return Conditions(
        normal(77, TEXT_WIDTH),
        normal(IMAGE_WIDTH),
        normal(77, TEXT_WIDTH),
        normal(K, 77, TEXT_WIDTH),
        normal(K, IMAGE_WIDTH),
        torch.full((ROWS,), interest_weight),
    )


def latents(seed=1):
    return torch.randn(ROWS, 4, 16, 16, generator=torch.Generator().manual_seed(seed)), torch.tensor([40, 700])


def naive_attention(query, key, value, heads):
    """softmax(QKᵀ/√d)V for one row, head by head."""
    width = query.shape[1] // heads
    parts = []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        shares = (query[:, own] @ key[:, own].T / math.sqrt(width)).softmax(dim=1)
        parts.append(shares @ value[:, own])
    return torch.cat(parts, dim=1)


@torch.no_grad()
def test_one_cross_attention_is_eq_10_to_13(model):
    """λ1 = 0.7, image weight 0.6, λ2 of each row its own."""
    image_weight, text_weight, index = 0.6, 0.7, 4
    weights = torch.tensor([0.2, 0.5])
    torch.manual_seed(3)
    for name in ("to_q", "to_k", "to_v"):
        torch.nn.init.normal_(getattr(model.adapter.ira, name).weight, std=TEXT_WIDTH**-0.5)
    given = conditions()._replace(interest_weight=weights)
    hidden = torch.randn(ROWS, 16, CHANNELS)
    attention = model.unet.get_submodule(cross_attentions(model.unet)[index])
    attention.set_processor(DecoupledAttention(index, image_weight, text_weight))
    found = attention(hidden, model.guide(given))

    adapter, block = model.adapter, list(model.adapter.ip_adapter.values())[index]
    ira = [getattr(adapter.ira, name).weight.T for name in ("to_q", "to_k", "to_v")]
    for row in range(ROWS):
        texts = given.retrieved_text[row].reshape(K * 77, TEXT_WIDTH)
        images = adapter.image_proj(given.retrieved_image[row]).reshape(K * TOKENS, TEXT_WIDTH)
        fused = naive_attention(given.query[row] @ ira[0], texts @ ira[1], texts @ ira[2], 4)  # Eq 10
        interest = naive_attention(fused @ ira[0], images @ ira[1], images @ ira[2], 4)  # Eq 11
        query, total = hidden[row] @ attention.to_q.weight.T, torch.zeros(16, CHANNELS)
        picture = adapter.image_proj(given.image_embeds[row : row + 1])[0]
        to_k_ip, to_v_ip = block.to_k_ip.weight.T, block.to_v_ip.weight.T
        for tokens, key, value, weight in (
            (picture, to_k_ip, to_v_ip, image_weight),
            (given.text[row], attention.to_k.weight.T, attention.to_v.weight.T, text_weight),
            (interest, to_k_ip, to_v_ip, weights[row]),
        ):
            total += weight * naive_attention(query, tokens @ key, tokens @ value, attention.heads)
        torch.testing.assert_close(found[row], attention.to_out[0](total), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_without_interest_it_is_diffusers_ip_adapter(family, model):
    pipeline = StableDiffusionPipeline(
        None, None, None, load_unet(family["checkpoint"]), None, None, None, requires_safety_checker=False
    )
    state = {"image_proj": {}, "ip_adapter": {}}
    for key, value in model.adapter.state_dict().items():
        part, rest = key.split(".", 1)
        if part in state:
            state[part][rest] = value
    pipeline.load_ip_adapter(state, subfolder=None, weight_name=None, image_encoder_folder=None)
    given = conditions(interest_weight=0.0)
    noisy, timesteps = latents()
    expected = pipeline.unet(
        noisy, timesteps, given.text, added_cond_kwargs={"image_embeds": [given.image_embeds[:, None]]}
    ).sample
    found = model(noisy, timesteps, given)
    assert (found - expected).norm() < 1e-5 * expected.norm()
    assert (model(noisy, timesteps, conditions(0.2)) - expected).norm() > 1e-3 * expected.norm()


def test_exactly_ira_and_the_blocks_projections_get_gradients(model):
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.trainable().values(), lr=1e-3)
    model(*latents(), conditions()).square().mean().backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    kinds = ("ira.to_q.weight", "ira.to_k.weight", "ira.to_v.weight", "to_k_ip.weight", "to_v_ip.weight")
    assert with_gradient == {name for name in before if name.endswith(kinds)}
    assert len(with_gradient) == 3 + 2 * 16
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (name not in with_gradient), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_frozen_parts_may_be_in_half_precision_while_what_trains_is_not(family, dtype):
    model = PersonalisedUNet(load_unet(family["checkpoint"]).to(dtype), load_adapter(family["ip_adapter"]))
    exact = PersonalisedUNet(load_unet(family["checkpoint"]), load_adapter(family["ip_adapter"]))
    found, expected = (x(*latents(), conditions()) for x in (model, exact))
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 0.05 * expected.norm()
    found.square().mean().backward()
    assert {(p.dtype, p.grad.dtype) for p in model.trainable().values()} == {(torch.float32, torch.float32)}


def test_gradient_checkpointing_changes_no_gradient(family):
    gradients = []
    for checkpointing in (False, True):
        model = PersonalisedUNet(load_unet(family["checkpoint"]), load_adapter(family["ip_adapter"]))
        if checkpointing:
            model.unet.enable_gradient_checkpointing()
        calls = []
        model.unet.mid_block.resnets[1].register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        model(*latents(), conditions()).square().mean().backward()
        gradients.append(({name: p.grad for name, p in model.trainable().items()}, len(calls)))
    (plain, once), (recomputed, twice) = gradients
    assert (once, twice) == (1, 2)
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-4, atol=1e-7)


def test_an_adapter_of_another_model_is_refused_with_both_shapes(family):
    state = adapter_state(torch.Generator())
    for part in "kv":
        del state[f"ip_adapter.31.to_{part}_ip.weight"]
    with pytest.raises(ValueError, match=r"15 blocks of \[32\].*16 of \[32\].*made for this checkpoint"):
        PersonalisedUNet(load_unet(family["checkpoint"]), Adapter(state))
