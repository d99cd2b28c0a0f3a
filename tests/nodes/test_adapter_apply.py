"""Eq 13 through ComfyUI's real sampler: what it computes, what it leaves alone, what it composes with."""

import gc
import math
from collections import Counter

import comfy.hooks
import comfy.ldm.modules.attention
import comfy.model_management
import comfy.samplers
import comfy.sd
import comfy.utils
import pytest
import rig
import torch
from comfy_extras.nodes_custom_sampler import DualCFGGuider
from pack.iamg.adapter import Adapter
from pack.nodes.adapter_apply import IAMGAdapterApply
from pack.nodes.cross_attention import CrossAttentionPatch, cross_attention_slots

NAMES = ("image_weight", "text_weight", "interest_weight", "start_percent", "end_percent")
DEFAULTS = dict(zip(NAMES, (1.0, 1.0, 0.2, 0.0, 1.0), strict=True))


@pytest.fixture(scope="module")
def model():
    return rig.small_model()


@pytest.fixture(scope="module")
def adapter(model, tmp_path_factory):
    return rig.adapter(model, tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def plain(model):
    return rig.sample(model)


def apply(model, adapter, vision=None, **inputs):
    arguments = DEFAULTS | {"interest": rig.interest()} | inputs
    return IAMGAdapterApply.execute(model, adapter, vision or rig.VisionOutput(), **arguments).result[0]


def close(a, b, tolerance=1e-4):
    return (a - b).abs().max() <= tolerance * b.abs().max()


class NaiveEquation13:
    """One block of Eq 13 with plain softmax, the whole batch at once, null tokens on the negative rows."""

    def __init__(self, state, index, vision, interest, weights, mask=None):
        adapter = Adapter(state)
        self.block = list(adapter.ip_adapter.values())[index]
        self.tokens = {
            0: adapter.project_image(vision.image_embeds),
            1: adapter.project_image(torch.zeros(1, rig.IMAGE_WIDTH)),
        }
        self.interest, self.weights, self.mask = interest, weights, mask

    def __call__(self, query, key, value, options):
        image_weight, text_weight, interest_weight = self.weights
        heads = options["n_heads"]
        kinds = options["cond_or_uncond"]
        rows = len(query) // len(kinds)
        out = text_weight * self.attention(query, key, value, heads)
        for group, kind in enumerate(kinds):
            part = slice(group * rows, (group + 1) * rows)
            added = image_weight * self.attention(query[part], *self.block(self.tokens[kind]), heads)
            if kind == 0:
                added = added + interest_weight * self.attention(query[part], *self.block(self.interest), heads)
            out[part] += added if self.mask is None else added * self.mask(options)
        return out

    @staticmethod
    def attention(query, key, value, heads):
        q, k, v = (x.unflatten(2, (heads, -1)) for x in (query, *(y.expand(len(query), -1, -1) for y in (key, value))))
        logits = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
        return torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), v).flatten(2)


def naive(model, weights, interest=None, mask=None):
    """The model with every block replaced by the naive formula, from the same file's weights."""
    state, vision = rig.adapter_state(model), rig.VisionOutput()
    patched = model.clone()
    for index, (slot, _, _) in enumerate(cross_attention_slots(model)):
        block = NaiveEquation13(state, index, vision, rig.interest() if interest is None else interest, weights, mask)
        patched.set_model_attn2_replace(block, *slot)
    return patched


# ---- what it computes


@pytest.mark.parametrize("weights", [(1.0, 1.0, 0.0), (1.0, 1.0, 0.2), (0.0, 1.0, 0.5), (0.6, 0.3, 0.2)])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_sampler_gives_equation_13(model, adapter, weights, batch):
    patched = apply(model, adapter, **dict(zip(NAMES, weights, strict=False)))
    expected = rig.sample(naive(model, weights), batch=batch)
    assert close(rig.sample(patched, batch=batch), expected)


def test_several_pictures_are_their_tokens_end_to_end(model, adapter):
    vision = rig.VisionOutput(pictures=3)
    expected = naive(model, (1.0, 1.0, 0.2))
    weights = Adapter(rig.adapter_state(model))
    for block in expected.model_options["transformer_options"]["patches_replace"]["attn2"].values():
        nothing = weights.project_image(torch.zeros(3, rig.IMAGE_WIDTH))
        block.tokens = {
            kind: x.reshape(1, 12, -1) for kind, x in ((0, weights.project_image(vision.image_embeds)), (1, nothing))
        }
    assert close(rig.sample(apply(model, adapter, vision)), rig.sample(expected))


def test_a_pooled_interest_is_one_token(model, adapter):
    token = rig.text(5, tokens=1)
    patched = apply(model, adapter, interest=token)
    assert close(rig.sample(patched), rig.sample(naive(model, (1.0, 1.0, 0.2), token)))


def test_all_16_blocks_are_patched_the_middle_too(model, adapter):
    seen = set()

    def record(function, *args, **kwargs):
        seen.add(tuple(kwargs["transformer_options"]["block"]))
        return function(*args, **kwargs)

    patched = apply(model, adapter)
    owners = patched.model_options["transformer_options"]["patches_replace"]["attn2"]
    assert {slot for slot, owner in owners.items() if isinstance(owner, CrossAttentionPatch)} == {
        *(("input", n) for n in (1, 2, 4, 5, 7, 8)),
        ("middle", 0),
        *(("output", n) for n in range(3, 12)),
    }
    called = []
    for slot, owner in owners.items():
        owners[slot] = lambda q, k, v, options, slot=slot, owner=owner: called.append(slot) or owner(q, k, v, options)
    rig.sample(patched, steps=1)
    assert set(called) == set(owners) and len(called) == 16


def test_weights_of_zero_leave_the_picture_as_it_was(model, adapter, plain):
    assert torch.equal(rig.sample(apply(model, adapter, image_weight=0.0, interest_weight=0.0)), plain)


def test_a_window_at_the_end_never_opens(model, adapter, plain):
    assert torch.equal(rig.sample(apply(model, adapter, start_percent=1.0)), plain)


def test_two_windows_that_meet_are_the_whole(model, adapter):
    whole = rig.sample(apply(model, adapter), steps=4)
    first = apply(model, adapter, end_percent=0.5)
    halves = apply(first, adapter, start_percent=0.5)
    assert not close(rig.sample(first, steps=4), whole)
    assert close(rig.sample(halves, steps=4), whole)


def test_a_full_window_never_waits_for_the_device(model, adapter, monkeypatch):
    import pack.nodes.cross_attention as module

    asked = []
    monkeypatch.setattr(module.Step, "sigma", property(lambda step: asked.append(1) or 1.0))
    rig.sample(apply(model, adapter))
    assert asked == []


def test_a_narrowed_window_is_decided_once_a_step(model, adapter, monkeypatch):
    import pack.nodes.cross_attention as module

    reads = []

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if function in (torch.Tensor.__float__, torch.Tensor.item, torch.Tensor.__bool__, torch.Tensor.cpu):
                reads.append(function)
            return super().__torch_function__(function, types, args, kwargs or {})

    original = module.Step.__init__
    monkeypatch.setattr(
        module.Step,
        "__init__",
        lambda step, timestep, negatives=(): original(step, timestep.as_subclass(Watched), negatives),
    )
    rig.sample(apply(model, adapter, end_percent=0.5), steps=4)
    assert len(reads) == 4


# ---- which rows are which


def test_cfg_1_has_only_conditional_rows(model, adapter):
    assert close(rig.sample(apply(model, adapter), cfg=1.0), rig.sample(naive(model, (1, 1, 0.2)), cfg=1.0))


def test_prompts_of_unequal_length_are_separate_calls(model, adapter):
    long = [[rig.text(12, tokens=154), {}]]
    short = [[rig.text(13, tokens=77), {}]]
    for positive, negative in ((long, short), (short, long)):
        ours = rig.sample(apply(model, adapter), positive, negative)
        assert close(ours, rig.sample(naive(model, (1, 1, 0.2)), positive, negative))


def test_the_interest_is_not_computed_for_the_negative_side(model, adapter, monkeypatch):
    import pack.nodes.cross_attention as module

    rows = []
    original = module.decoupled_attention
    monkeypatch.setattr(
        module,
        "decoupled_attention",
        lambda query, text, terms, *args, **kwargs: (
            rows.append((len(query), [term.key.shape[1] for term in terms]))
            or original(query, text, terms, *args, **kwargs)
        ),
    )
    rig.sample(apply(model, adapter), steps=1)
    assert sorted(rows) == [(1, [77])] * 16 + [(2, [32])] * 16  # 4 tokens of 8 heads


class Numbered(NaiveEquation13):
    """The naive block under DualCFGGuider, which numbers negative, middle, positive 0, 1, 2."""

    def __call__(self, query, key, value, options):
        kinds = [0 if kind else 1 for kind in options["cond_or_uncond"]]
        return super().__call__(query, key, value, {**options, "cond_or_uncond": kinds})


@pytest.mark.parametrize("style", ["regular", "nested"])
def test_dual_cfg_numbers_its_sides_differently(model, adapter, style):
    conds = [[[rig.text(20), {}]], [[rig.text(21, tokens=154), {}]], [[rig.text(22), {}]]]

    def run(patched):
        guider = DualCFGGuider.execute(patched, *conds, 5.0, 3.0, style).result[0]
        latent = torch.zeros(1, 4, 8, 8)
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(3))
        sigmas = comfy.samplers.calculate_sigmas(patched.get_model_object("model_sampling"), "normal", 2)
        with torch.inference_mode():
            return guider.sample(noise, latent, comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True)

    expected = naive(model, (1, 1, 0.2))
    attn2 = expected.model_options["transformer_options"]["patches_replace"]["attn2"]
    for block in attn2.values():
        block.__class__ = Numbered
    assert close(run(apply(model, adapter)), run(expected))


def area(conditioning, height, width, top, left):
    return [[conditioning[0][0], {"area": (height, width, top, left), "strength": 1.0}]]


def test_areas_are_conditional_everywhere(model, adapter):
    positive = area([[rig.text(10), {}]], 8, 4, 0, 0) + area([[rig.text(14), {}]], 8, 4, 0, 4)
    ours = rig.sample(apply(model, adapter), positive)
    assert close(ours, rig.sample(naive(model, (1, 1, 0.2)), positive))


# ---- masks


@pytest.mark.parametrize("size", [(17, 23), (9, 40), (31, 3), (5, 64)])
def test_a_mask_lands_where_it_was_drawn_at_every_level(model, adapter, size):
    """The left half is masked out: there every level's blocks must be untouched, on the right all must change."""
    height, width = size
    mask = torch.zeros(1, height * 8, width * 8)
    mask[..., width * 4 :] = 1.0
    seen = {}

    def watch(module_patch, slot):
        def block(query, key, value, options):
            out = module_patch(query, key, value, options)
            text = NaiveEquation13.attention(query, key, value, options["n_heads"])
            h, w = options["activations_shape"][-2:]
            seen[slot] = (out - text).abs().amax(dim=(0, 2)).view(h, w)
            return out

        return block

    patched = apply(model, adapter, mask=mask)
    owners = patched.model_options["transformer_options"]["patches_replace"]["attn2"]
    for slot in owners:
        owners[slot] = watch(owners[slot], slot)
    rig.sample(patched, size=size, steps=1)
    assert len(seen) == 16
    for slot, change in seen.items():
        left, right = change[:, : max(change.shape[1] // 2 - 1, 0)], change[:, (change.shape[1] + 1) // 2 + 1 :]
        scale = change.max()
        assert left.numel() == 0 or left.max() < 1e-4 * scale, slot
        assert right.numel() == 0 or right.min() > 0, slot


def test_a_mask_of_another_size_means_the_same_place(model, adapter):
    small, large = torch.zeros(1, 16, 16), torch.zeros(1, 64, 64)
    small[:, 8:], large[:, 32:] = 1.0, 1.0
    a, b = (rig.sample(apply(model, adapter, mask=mask), steps=1) for mask in (small, large))
    assert close(a, b, 0.02)


def test_a_white_mask_is_no_mask_and_a_black_one_no_adapter(model, adapter, plain):
    white, black = torch.ones(1, 8, 8), torch.zeros(1, 8, 8)
    assert close(rig.sample(apply(model, adapter, mask=white)), rig.sample(apply(model, adapter)))
    assert close(rig.sample(apply(model, adapter, mask=black)), plain)


def test_a_mask_is_cut_with_the_area_it_meets(model, adapter):
    """A conditioning of the right half sees the right half of the mask, not the whole squeezed into it."""
    mask = torch.zeros(1, 8, 16)
    mask[..., 8:] = 1.0
    positive = area([[rig.text(10), {}]], 8, 8, 0, 0) + area([[rig.text(14), {}]], 8, 8, 0, 8)
    changed = {}

    def capture(patch):
        def block(query, key, value, options):
            out = patch(query, key, value, options)
            change = out - NaiveEquation13.attention(query, key, value, options["n_heads"])
            areas = options["iamg"].groups(query, options).areas
            for ((_, _, _, left), _), part in zip(areas, change, strict=True):
                changed[left] = bool(part.abs().amax() > 1e-4)
            return out

        return block

    patched = apply(model, adapter, mask=mask)
    owners = patched.model_options["transformer_options"]["patches_replace"]["attn2"]
    owners[("input", 1)] = capture(owners[("input", 1)])
    rig.sample(patched, positive, size=(8, 16), steps=1, cfg=1.0)
    assert changed == {0: False, 8: True}


# ---- what it leaves alone


def test_the_model_that_comes_in_stays_as_it_was(model, adapter, plain):
    once = apply(model, adapter)
    before = rig.sample(once)
    twice = apply(once, adapter, image_weight=0.5)
    assert torch.equal(rig.sample(model), plain)
    assert torch.equal(rig.sample(once), before)
    assert not close(rig.sample(twice), before)


def test_the_same_graph_again_gives_the_same_picture(model, adapter):
    def graph():
        return rig.sample(apply(apply(model, adapter), adapter, image_weight=0.4))

    assert torch.equal(graph(), graph())


def test_half_and_half_is_one(model, adapter):
    half = {"image_weight": 0.5, "interest_weight": 0.1}
    stacked = apply(apply(model, adapter, **half), adapter, **half)
    assert close(rig.sample(stacked), rig.sample(apply(model, adapter)))


def test_stacked_text_weights_multiply(model, adapter):
    stacked = apply(apply(model, adapter, text_weight=0.5), adapter, text_weight=0.6, image_weight=0.0, interest=None)
    assert close(rig.sample(stacked), rig.sample(apply(model, adapter, text_weight=0.3)))


def test_keys_and_values_are_all_that_is_held(model, adapter):
    patched = apply(model, adapter)
    (application,) = patched.model_options["transformer_options"]["patches_replace"]["attn2"][("input", 1)].applications
    held = sum(x.nbytes for pairs in (application.image, application.interest) for pair in pairs for x in pair)
    channels = sum(channels for _, channels, _ in cross_attention_slots(model))
    assert held == channels * 4 * 2 * (2 * 4 + 77)  # fp32, keys and values, null and picture, interest
    assert adapter not in patched.model_patches_models() + patched.get_additional_models()
    assert all(loaded.model is not adapter for loaded in comfy.model_management.current_loaded_models)


def test_memory_does_not_grow_with_each_application(model, adapter):
    def tensors():
        gc.collect()
        return sum(x.nbytes for x in gc.get_objects() if isinstance(x, torch.Tensor))

    rig.sample(apply(model, adapter), steps=1)
    before = tensors()
    for _ in range(5):
        rig.sample(apply(model, adapter), steps=1)
    assert tensors() - before < 100_000


# ---- precision and attention functions


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_follows_full_precision(adapter, dtype):
    full, half = rig.small_model(), rig.small_model(dtype)
    expected = rig.sample(apply(full, adapter), steps=1, cfg=1.0)
    ours = rig.sample(apply(half, adapter), steps=1, cfg=1.0)
    reference = rig.sample(half, steps=1, cfg=1.0) - rig.sample(full, steps=1, cfg=1.0)
    assert ours.isfinite().all()
    assert (ours - expected).abs().mean() < 4 * reference.abs().mean()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_compute_dtype_set_before_or_after_the_node(model, adapter, when):
    patched = model.clone()
    if when == "before":
        patched.set_model_compute_dtype(torch.bfloat16)
        patched = apply(patched, adapter)
    else:
        patched = apply(patched, adapter)
        patched.set_model_compute_dtype(torch.bfloat16)
    out = rig.sample(patched, steps=1, cfg=1.0)
    exact = rig.sample(apply(model, adapter), steps=1, cfg=1.0)
    assert out.isfinite().all() and not torch.equal(out, exact)
    assert (out - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_an_attention_override_sees_every_attention(model, adapter):
    keys = []

    def override(function, q, k, v, *args, **kwargs):
        keys.append((tuple(kwargs["transformer_options"]["block"]), k.shape[1]))
        return function(q, k, v, *args, **kwargs)

    patched = apply(model, adapter)
    patched.model_options["transformer_options"]["optimized_attention_override"] = override
    out = rig.sample(patched, steps=1, size=(24, 24))  # no self-attention of this size has 4 or 77 keys
    for tokens, times in ((77, 2), (4, 1)):  # text and interest; the picture
        blocks = Counter(block for block, count in keys if count == tokens)
        assert len(blocks) == 16 and set(blocks.values()) == {times}
    assert close(out, rig.sample(apply(model, adapter), steps=1, size=(24, 24)))


def test_attention_precision_reaches_every_attention(adapter, monkeypatch):
    import pack.nodes.cross_attention as module

    model = rig.small_model(torch.float16)
    for layer in model.model.diffusion_model.modules():
        if isinstance(layer, comfy.ldm.modules.attention.BasicTransformerBlock):
            layer.attn_precision = torch.float32
            layer.attn1.attn_precision = layer.attn2.attn_precision = torch.float32
    precisions, logits = [], []
    attention, decoupled = module.optimized_attention, module.decoupled_attention
    monkeypatch.setattr(
        module,
        "optimized_attention",
        lambda *args, **kwargs: precisions.append(kwargs["attn_precision"]) or attention(*args, **kwargs),
    )
    monkeypatch.setattr(
        module,
        "decoupled_attention",
        lambda *args, **kwargs: logits.append(kwargs["precision"]) or decoupled(*args, **kwargs),
    )
    rig.sample(apply(model, adapter), steps=1)
    assert set(precisions) == set(logits) == {torch.float32}


# ---- what it composes with


def test_a_lora_under_and_over_it_is_the_same(model, adapter):
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    weight = comfy.utils.get_attr(model.model, key)
    patch = {key: (torch.randn(weight.shape, generator=torch.Generator().manual_seed(7)) * 0.1,)}

    def lora(patched):
        patched = patched.clone()
        assert patched.add_patches(patch, 1.0) == [key]
        return patched

    under, over = rig.sample(apply(lora(model), adapter)), rig.sample(lora(apply(model, adapter)))
    assert torch.equal(under, over)
    assert not close(under, rig.sample(apply(model, adapter)))


def test_a_controlnet_beside_it_counts_as_it_does_without(model, adapter):
    positive = [[rig.text(10), {"control": rig.controlnet(), "control_apply_to_uncond": True}]]
    ours = rig.sample(apply(model, adapter), positive)
    assert close(ours, rig.sample(naive(model, (1, 1, 0.2)), positive))
    assert not close(ours, rig.sample(apply(model, adapter)))


class ForeignPatch:
    """What another IP-Adapter pack leaves in a block: the text attention and a term of its own."""

    def __call__(self, query, key, value, options):
        return NaiveEquation13.attention(query, key, value, options["n_heads"]) + self.term(query)

    @staticmethod
    def term(query):
        return 0.05 * query


def foreign_under(model):
    patched = model.clone()
    for slot, _, _ in cross_attention_slots(model):
        patched.set_model_attn2_replace(ForeignPatch(), *slot)
    return patched


def foreign_over(model):
    """How IPAdapter Plus joins a block that is already taken: it adds a callback to whoever owns it."""
    patched = model.clone()
    for owner in patched.model_options["transformer_options"]["patches_replace"]["attn2"].values():
        owner.add(
            lambda out, q, k, v, options, sigma_start, sigma_end: ForeignPatch.term(q),
            sigma_start=999999999.9,
            sigma_end=0.0,
        )
    return patched


@pytest.mark.parametrize("text_weight", [1.0, 0.4])
def test_another_adapter_before_or_after_is_the_same_sum(model, adapter, text_weight):
    under = rig.sample(apply(foreign_under(model), adapter, text_weight=text_weight))
    over = rig.sample(foreign_over(apply(model, adapter, text_weight=text_weight)))
    assert close(under, over)
    assert not close(under, rig.sample(apply(model, adapter, text_weight=text_weight)))


def test_what_another_pack_adds_to_a_clone_stays_on_the_clone(model, adapter):
    ours = apply(model, adapter)
    before = rig.sample(ours)
    first = rig.sample(foreign_over(ours))
    assert torch.equal(rig.sample(foreign_over(ours)), first)
    assert torch.equal(rig.sample(ours), before)


def test_our_node_over_another_packs_callback_keeps_both(model, adapter):
    stacked = apply(
        foreign_over(apply(model, adapter, text_weight=0.5)), adapter, text_weight=0.6, image_weight=0.0, interest=None
    )
    other = foreign_over(apply(model, adapter, text_weight=0.3))
    assert close(rig.sample(stacked), rig.sample(other))


# ---- bad input


def test_a_model_of_another_family_is_refused_by_name(adapter):
    class Patcher:
        class model:  # noqa: N801
            model_config = comfy.supported_models.SDXL({"context_dim": 2048})

    with pytest.raises(ValueError, match="SD1.5 family, but the connected model is SDXL"):
        apply(Patcher, adapter)


def test_an_adapter_of_another_size_is_refused(model, tmp_path):
    other = rig.adapter(rig.small_model(channels=64), tmp_path)
    with pytest.raises(ValueError, match="64/128/256 channels.*the model has 16 of 32/64/128"):
        apply(model, other)


def test_an_embedding_of_another_width_is_refused(model, adapter):
    with pytest.raises(ValueError, match="takes 64-d image embeddings, but the CLIP Vision model gives 96-d"):
        apply(model, adapter, rig.VisionOutput(width=96))


def test_an_interest_of_another_width_is_refused(model, adapter):
    with pytest.raises(ValueError, match="interest is 64-d, but the adapter's tokens are 768-d"):
        apply(model, adapter, interest=torch.zeros(1, 77, 64))


def test_a_window_back_to_front_is_refused(model, adapter):
    with pytest.raises(ValueError, match="start_percent 0.8 is after end_percent 0.2"):
        apply(model, adapter, start_percent=0.8, end_percent=0.2)
