"""Eq 10 and Eq 11 against loops over heads, queries and keys."""

import math

import pytest
import torch
from scipy.optimize import nnls

from iamg.ira import InterestRetrieveAttention

WIDTH, HEADS, K = 16, 4, 3


def random_ira(seed=0) -> InterestRetrieveAttention:
    torch.manual_seed(seed)
    ira = InterestRetrieveAttention(WIDTH, HEADS)
    for weight in ira.parameters():
        torch.nn.init.normal_(weight, std=WIDTH**-0.5)
    return ira


def inputs(batch=2, queries=6, text_tokens=7, image_tokens=4):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, queries, WIDTH, generator=generator),
        torch.randn(batch, K, text_tokens, WIDTH, generator=generator),
        torch.randn(batch, K, image_tokens, WIDTH, generator=generator),
    )


def naive_stage(query, retrieved, ira):
    """softmax(QKᵀ/√d)V one head, one query at a time; also the share of each retrieved item."""
    batch, queries, width = query.shape
    head_dim = width // HEADS
    out, mass = torch.zeros_like(query), torch.zeros(batch, K)
    for b in range(batch):
        context = torch.cat([retrieved[b, k] for k in range(K)])
        owner = [k for k in range(K) for _ in range(retrieved.shape[2])]
        q, k, v = query[b] @ ira.to_q.weight.T, context @ ira.to_k.weight.T, context @ ira.to_v.weight.T
        for head in range(HEADS):
            part = slice(head * head_dim, (head + 1) * head_dim)
            for n in range(queries):
                scores = torch.tensor([float(q[n, part] @ row[part]) / math.sqrt(head_dim) for row in k])
                weights = scores.exp() / scores.exp().sum()
                out[b, n, part] = sum(w * row[part] for w, row in zip(weights, v, strict=True))
                for weight, item in zip(weights, owner, strict=True):
                    mass[b, item] += weight / (HEADS * queries)
    return out, mass


def test_ira_is_equations_10_and_11():
    ira, (text, retrieved_text, retrieved_image) = random_ira(), inputs()
    with torch.no_grad():
        interest = ira(text, retrieved_text, retrieved_image)
        fused, text_mass = naive_stage(text, retrieved_text, ira)
        tokens, image_mass = naive_stage(fused, retrieved_image, ira)
    torch.testing.assert_close(interest.tokens, tokens)
    torch.testing.assert_close(interest.text_mass, text_mass)
    torch.testing.assert_close(interest.image_mass, image_mass)


def test_masses_are_shares():
    interest = random_ira()(*inputs())
    for mass in (interest.text_mass, interest.image_mass):
        assert mass.shape == (2, K)
        torch.testing.assert_close(mass.sum(1), torch.ones(2))


def test_both_stages_train_the_same_three_matrices():
    ira, (text, retrieved_text, retrieved_image) = random_ira(), inputs()
    assert [name for name, _ in ira.named_parameters()] == ["to_q.weight", "to_k.weight", "to_v.weight"]
    weights = list(ira.parameters())
    fused = naive_stage(text, retrieved_text, ira)[0].detach()

    def gradients(query, retrieved):
        """Of one stage alone: Eq 10 and Eq 11 are the same attention on other inputs."""
        return torch.autograd.grad(ira._attend(query, retrieved)[0].square().sum(), weights)

    first, second = gradients(text, retrieved_text), gradients(fused, retrieved_image)
    assert all(gradient.abs().sum() > 0 for gradient in (*first, *second))
    whole = torch.autograd.grad(ira(text, retrieved_text, retrieved_image).tokens.square().sum(), weights)
    assert all(not torch.allclose(a, b) for a, b in zip(whole, second, strict=True))  # the first stage adds its share


def test_untrained_ira_gives_convex_mixes_of_the_retrieved_image_tokens():
    text, retrieved_text, retrieved_image = inputs()
    interest = InterestRetrieveAttention(WIDTH, HEADS)(text, retrieved_text, retrieved_image)
    tokens = retrieved_image.flatten(1, 2)
    for b in range(2):
        for head in range(HEADS):
            part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
            mixed, vertices = interest.tokens[b, :, part], tokens[b, :, part]
            # least squares with a sum-to-one row has a non-negative solution exactly for convex mixes
            for row in mixed:
                system = torch.cat([vertices.T, torch.ones(1, len(vertices))]).double().numpy()
                target = torch.cat([row, torch.ones(1)]).detach().double().numpy()
                assert nnls(system, target)[1] < 1e-5


def test_one_pooled_query_gives_one_token():
    _, retrieved_text, retrieved_image = inputs()
    interest = random_ira()(torch.randn(2, 1, WIDTH), retrieved_text, retrieved_image)
    assert interest.tokens.shape == (2, 1, WIDTH)


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="10 is not a multiple of its 4 heads"):
        InterestRetrieveAttention(10, 4)
