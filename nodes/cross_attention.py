"""Eq 13 inside ComfyUI's U-Net: what each cross-attention block runs, and what it must know of the step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from comfy.ldm.modules.attention import SpatialTransformer, get_attn_precision, optimized_attention
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor

from ..iamg.attention import Term, block_diagonal, decoupled_attention

KEY = "iamg"
"""Our entry in wrappers, callbacks and transformer_options."""

Slot = tuple[str, int]
Size = tuple[int, int]  # height, width
Area = tuple[tuple[int, int, int, int], Size]  # height, width, top, left in latent pixels; size of the whole latent


@dataclass(frozen=True, eq=False)
class Application:
    """One IAMGAdapterApply on a model: the keys and values of every block, and how strongly they count.

    Nothing here depends on the step. `image` holds, for each block, key and value of (null, picture), each
    (2, tokens, channels); `interest` key and value (1, tokens, channels). Copies in the device and dtype of
    the sampling are made once and dropped when the model leaves the device.
    """

    image: list[tuple[Tensor, Tensor]]
    interest: list[tuple[Tensor, Tensor]]  # empty without an interest
    image_weight: float
    text_weight: float
    interest_weight: float
    window: tuple[float, float] | None  # (first, last) sigma; None is the whole sampling
    mask: Tensor | None  # (1 or batch, height, width) over the whole picture
    _cast: dict = field(default_factory=dict)

    def active(self, step: "Step") -> bool:
        return self.window is None or self.window[1] <= step.sigma <= self.window[0]

    def image_term(self, index: int, query: Tensor, groups: "Groups", heads: int | None) -> Term | None:
        """Block `index`'s picture for every row: the null tokens on the negative side.

        heads: of block-diagonal keys; None for plain ones.
        """
        if not self.image_weight:
            return None
        image, _, mask = self._on(query)
        place = (query.device, query.dtype, index, heads, *groups.negative)
        if place not in self._cast:
            pair = [torch.stack([x[0 if negative else 1] for negative in groups.negative]) for x in image[index]]
            self._cast[place] = block_diagonal(*pair, heads) if heads else pair
        weight = self.image_weight if mask is None else self.image_weight * self._mask_at_block(mask, groups)
        return Term(*self._cast[place], weight, block_diagonal=heads is not None)

    def interest_term(self, index: int, query: Tensor, groups: "Groups") -> Term | None:
        """Block `index`'s interest, for rows of the positive side only: the null interest is zero."""
        _, interest, mask = self._on(query)
        if not (interest and self.interest_weight):
            return None
        weight = self.interest_weight if mask is None else self.interest_weight * self._mask_at_block(mask, groups)
        return Term(*interest[index], weight)

    def release(self) -> None:
        self._cast.clear()

    def _on(self, query: Tensor) -> tuple[list, list, Tensor | None]:
        place = (query.device, query.dtype)
        if place not in self._cast:
            image, interest = (
                [(key.to(*place), value.to(*place)) for key, value in pairs] for pairs in (self.image, self.interest)
            )
            mask = None if self.mask is None else self.mask.to(query.device)
            self._cast[place] = image, interest, mask
        return self._cast[place]

    def _mask_at_block(self, mask: Tensor, groups: "Groups") -> Tensor:
        """The mask as the block sees it in these groups' rows: (groups · rows, positions, 1)."""
        return torch.cat([self._mask_in_area(mask, groups, area) for area in groups.areas])

    def _mask_in_area(self, mask: Tensor, groups: "Groups", area: Area | None) -> Tensor:
        key = (mask.device, groups.size, area)
        if key not in self._cast:
            shade = mask[:, None]
            if area is not None:
                (height, width, top, left), latent_size = area
                shade = F.interpolate(shade, latent_size, mode="bilinear", antialias=True)
                shade = shade[..., top : top + height, left : left + width]
            self._cast[key] = F.interpolate(shade, groups.size, mode="bilinear", antialias=True).flatten(1)[..., None]
        shade = self._cast[key]
        return shade.repeat(-(-groups.rows // len(shade)), 1, 1)[: groups.rows]


class Groups(NamedTuple):
    """The rows of one U-Net call as a block sees them: `rows` for each conditioning, one after the other."""

    rows: int
    size: Size  # of the block
    negative: list[bool]  # for each conditioning, whether it is the negative side
    areas: list[Area | None]  # for each conditioning, the part of the picture it is for; None is the whole


class Step:
    """What the blocks must know of one model evaluation, worked out at most once in it."""

    unconditional: frozenset[int] = frozenset({1})
    """Which numbers of `cond_or_uncond` are the negative side: plain CFG's order until a batch says otherwise."""

    def __init__(self, timestep: Tensor, negatives: Sequence[list] = ()):
        """negatives: the guider's own lists of negative conditionings."""
        self._timestep, self._negatives = timestep, negatives
        self._areas: dict = {}

    @cached_property
    def sigma(self) -> float:
        """The step's noise level. Waits for the device, so it is only asked when a window is narrowed."""
        return float(self._timestep[0])

    def begin_batch(self, conds: list, latent: Tensor) -> None:
        """Recognise the conditionings of the U-Net calls that follow; guiders number them as they like."""
        if self._negatives:
            self.unconditional = frozenset(
                number for number, entries in enumerate(conds) if any(entries is x for x in self._negatives)
            )
        size = tuple(latent.shape[-2:])
        self._areas = {x["uuid"]: (tuple(x["area"]), size) for entries in conds for x in entries or [] if "area" in x}

    def groups(self, query: Tensor, options: dict) -> Groups:
        numbers = options["cond_or_uncond"]
        return Groups(
            rows=query.shape[0] // len(numbers),
            size=tuple(options["activations_shape"][-2:]),
            negative=[number in self.unconditional for number in numbers],
            areas=[self._areas.get(uuid) for uuid in options["uuids"]],
        )


class CrossAttentionPatch:
    """attn2 replacement of one block: the text attention, then Eq 13's other terms of every application."""

    def __init__(self, index: int, applications: list[Application], previous=None, callbacks: Sequence = ()):
        self.index, self.applications, self.previous = index, applications, previous
        self.callbacks = list(callbacks)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, options: dict) -> Tensor:
        heads, step = options["n_heads"], options.get(KEY) or Step(options["sigmas"])
        attend = partial(optimized_attention, attn_precision=options["attn_precision"], transformer_options=options)
        overridden = "optimized_attention_override" in options
        applications = [application for application in self.applications if application.active(step)]
        text_weight = 1.0
        for application in applications:
            text_weight *= application.text_weight

        if self.previous is None:
            out = attend(query, key, value, heads)
        else:
            out = self.previous(query, key, value, options)
            if text_weight != 1:  # λ1 scales the text alone, not what another pack added to it
                out = out + (text_weight - 1) * attend(query, key, value, heads)
                text_weight = 1.0
        if overridden or self.previous is not None:
            out = out.clone()  # not made here, so not ours to write into

        groups = step.groups(query, options)
        add = partial(
            decoupled_attention,
            heads=heads,
            attend=attend,
            precision=get_attn_precision(options["attn_precision"], query.dtype),
        )
        split = None if overridden or query.device.type != "cpu" else heads
        image = [application.image_term(self.index, query, groups, split) for application in applications]
        out = add(query, out, [term for term in image if term], text_weight=text_weight)

        parts = list(out.split(groups.rows))
        for number, negative in enumerate(groups.negative):
            if not negative:
                rows = query[number * groups.rows : (number + 1) * groups.rows]
                group = groups._replace(negative=[False], areas=groups.areas[number : number + 1])
                interest = [application.interest_term(self.index, rows, group) for application in applications]
                parts[number] = add(rows, parts[number], [term for term in interest if term])
        if torch.is_grad_enabled():  # otherwise the parts were written into `out`
            out = torch.cat(parts)
        for callback, arguments in self.callbacks:
            if arguments["sigma_end"] <= step.sigma <= arguments["sigma_start"]:
                out = out + callback(out, query, key, value, options, **arguments)
        return out

    def add(self, callback, **arguments) -> None:
        """IPAdapter Plus calls this on whatever already owns the block."""
        self.callbacks.append((callback, arguments))

    def copy(self) -> "CrossAttentionPatch":
        return CrossAttentionPatch(self.index, self.applications, self.previous, self.callbacks)

    def to(self, device_or_dtype) -> "CrossAttentionPatch":
        """ComfyUI moves patches with their model; ours follow the query instead, and let go when it moves."""
        if isinstance(device_or_dtype, torch.device):
            for application in self.applications:
                application.release()
        if hasattr(self.previous, "to"):
            self.previous = self.previous.to(device_or_dtype)
        return self

    def models(self) -> list[ModelPatcher]:
        return self.previous.models() if hasattr(self.previous, "models") else []


def cross_attention_slots(model: ModelPatcher) -> list[tuple[Slot, int, int]]:
    """(slot, channels, text width) of every cross-attention, in IP-Adapter's file order: the middle comes last."""
    unet = model.model.diffusion_model
    blocks = [("input", unet.input_blocks), ("output", unet.output_blocks), ("middle", [unet.middle_block])]
    return list(_slots(blocks))


def _slots(blocks: list) -> Iterator[tuple[Slot, int, int]]:
    for name, sequence in blocks:
        for number, block in enumerate(sequence or []):
            for layer in block or []:
                if isinstance(layer, SpatialTransformer):
                    attention = layer.transformer_blocks[0].attn2
                    yield (name, number), attention.to_k.out_features, attention.to_k.in_features


def apply(model: ModelPatcher, application: Application) -> ModelPatcher:
    """A clone of the model whose blocks also run this application; the model itself stays as it was."""
    patched = model.clone()
    owners = patched.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})
    for index, (slot, _, _) in enumerate(cross_attention_slots(model)):
        owner = owners.get((*slot, 0), owners.get(slot))
        if isinstance(owner, CrossAttentionPatch):
            patch = CrossAttentionPatch(index, [*owner.applications, application], owner.previous, owner.callbacks)
        else:
            patch = CrossAttentionPatch(index, [application], owner)
        if (*slot, 0) in owners:
            patched.set_model_attn2_replace(patch, *slot, transformer_index=0)
        else:
            patched.set_model_attn2_replace(patch, *slot)
    for kind, wrapper in (
        (WrappersMP.PREDICT_NOISE, _begin_step),
        (WrappersMP.CALC_COND_BATCH, _begin_batch),
    ):
        patched.remove_wrappers_with_key(kind, KEY)
        patched.add_wrapper_with_key(kind, KEY, wrapper)
    patched.remove_callbacks_with_key(CallbacksMP.ON_CLONE, KEY)
    patched.add_callback_with_key(CallbacksMP.ON_CLONE, KEY, _own_patches)
    return patched


def _own_patches(_: ModelPatcher, clone: ModelPatcher) -> None:
    """A node that adds to our patch on its clone must not reach the model it cloned."""
    attn2 = clone.model_options["transformer_options"]["patches_replace"]["attn2"]
    for slot, patch in attn2.items():
        if isinstance(patch, CrossAttentionPatch):
            attn2[slot] = patch.copy()


def _begin_step(executor, x, timestep, model_options=None, seed=None):
    negatives = [conds for name, conds in executor.class_obj.conds.items() if "negative" in name]
    step = Step(timestep, negatives)
    transformer_options = {**model_options["transformer_options"], KEY: step}
    return executor(x, timestep, {**model_options, "transformer_options": transformer_options}, seed)


def _begin_batch(executor, model, conds, x_in, timestep, model_options):
    step = model_options["transformer_options"].get(KEY)
    if step is not None:
        step.begin_batch(conds, x_in)
    return executor(model, conds, x_in, timestep, model_options)
