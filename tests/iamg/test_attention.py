"""Eq 13 against the formula written with loops."""

import math

import pytest
import torch

from iamg.attention import Term, block_diagonal, decoupled_attention, multi_head_attention

HEADS = 4


def naive_attention(query, key, value, heads):
    rows, positions, channels = query.shape
    head_dim = channels // heads
    out = torch.zeros_like(query)
    for row in range(rows):
        k, v = key[row % len(key)], value[row % len(value)]
        for head in range(heads):
            part = slice(head * head_dim, (head + 1) * head_dim)
            for position in range(positions):
                logits = (k[:, part] @ query[row, position, part]) / math.sqrt(head_dim)
                weights = logits.exp() / logits.exp().sum()
                out[row, position, part] = weights @ v[:, part]
    return out


def tensors(rows=2, positions=5, channels=16, tokens=4, keys=1):
    generator = torch.Generator().manual_seed(tokens)
    shapes = [(rows, positions, channels)] * 2 + [(keys, tokens, channels)] * 2
    return [torch.randn(shape, generator=generator) for shape in shapes]


def term(key, value, weight, diagonal):
    pair = block_diagonal(key, value, HEADS) if diagonal else (key, value)
    return Term(*pair, weight, block_diagonal=diagonal)


def test_multi_head_attention_is_the_formula():
    query, _, key, value = tensors()
    torch.testing.assert_close(
        multi_head_attention(query, key, value, HEADS), naive_attention(query, key, value, HEADS)
    )


@pytest.mark.parametrize("tokens", [1, 4, 77])
@pytest.mark.parametrize("keys", [1, 2])
@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_decoupled_attention_is_equation_13(tokens, keys, diagonal, grad):
    query, text, key, value = tensors(tokens=tokens, keys=keys)
    _, _, other_key, other_value = tensors(tokens=7)
    expected = (
        0.7 * text
        + 1.3 * naive_attention(query, key, value, HEADS)
        + 0.2 * naive_attention(query, other_key, other_value, HEADS)
    )
    terms = [term(key, value, 1.3, diagonal), Term(other_key, other_value, 0.2)]
    with torch.set_grad_enabled(grad):
        out = decoupled_attention(query, text.clone(), terms, HEADS, text_weight=0.7)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("masks", [1, 2])
def test_a_mask_weighs_each_position(diagonal, masks):
    query, text, key, value = tensors()
    mask = torch.rand(masks, query.shape[1], 1, generator=torch.Generator().manual_seed(0))
    expected = text + mask * naive_attention(query, key, value, HEADS)
    with torch.no_grad():
        out = decoupled_attention(query, text.clone(), [term(key, value, mask, diagonal)], HEADS)
    torch.testing.assert_close(out, expected)


def test_with_gradients_the_text_is_not_written_into_and_every_input_gets_one():
    query, text, key, value = (x.requires_grad_() for x in tensors())
    before = text.detach().clone()
    out = decoupled_attention(query, text, [Term(key, value, 0.2)], HEADS)
    out.square().sum().backward()
    assert torch.equal(text.detach(), before)
    assert all(x.grad.abs().sum() > 0 for x in (query, text, key, value))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("diagonal", [True, False])
def test_half_precision_follows_full_precision(dtype, diagonal):
    query, text, key, value = tensors()
    exact = decoupled_attention(query, text, [Term(key, value, 1.0)], HEADS)
    low = (x.to(dtype) for x in (query, text, key, value))
    query, text, key, value = low
    out = decoupled_attention(query, text, [term(key, value, 1.0, diagonal)], HEADS, precision=torch.float32)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), exact, atol=0.05, rtol=0.05)
