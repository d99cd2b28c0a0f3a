"""IP-Adapter weights, stock or with IRA's matrices beside them, and what they compute outside the U-Net."""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .ira import InterestRetrieveAttention

FORMAT_VERSION = 1
METADATA_KEY = "iamg"
"""The safetensors header's entry of our own files: a JSON object with `format_version`, `heads` and more."""

REQUIRED = (
    "image_proj.proj.weight",
    "image_proj.proj.bias",
    "image_proj.norm.weight",
    "image_proj.norm.bias",
)
IRA_KEYS = ("ira.to_q.weight", "ira.to_k.weight", "ira.to_v.weight")
OTHER_KINDS = {
    "image_proj.latents": "an IP-Adapter Plus file (a resampler)",
    "image_proj.proj.0.weight": "a FaceID or full-face IP-Adapter file (a perceptron)",
}


class ImageProjection(nn.Module):
    """Proj_img: one image embedding → a few tokens of the text encoder's width (IP-Adapter, frozen)."""

    def __init__(self, image_width: int, width: int, tokens: int, operations=nn, dtype=None):
        super().__init__()
        self.tokens = tokens
        self.proj = operations.Linear(image_width, tokens * width, dtype=dtype)
        self.norm = operations.LayerNorm(width, dtype=dtype)

    def forward(self, image_embeds: Tensor) -> Tensor:
        """(n, image_width) → (n, tokens, width)"""
        return self.norm(self.proj(image_embeds).unflatten(1, (self.tokens, -1)))


class KeyValueProjection(nn.Module):
    """to_k_ip and to_v_ip of one cross-attention block, shared by the image and the interest terms of Eq 13."""

    def __init__(self, width: int, channels: int, operations=nn, dtype=None):
        super().__init__()
        self.to_k_ip = operations.Linear(width, channels, bias=False, dtype=dtype)
        self.to_v_ip = operations.Linear(width, channels, bias=False, dtype=dtype)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(n, tokens, width) → key and value, each (n, tokens, channels)"""
        return self.to_k_ip(tokens), self.to_v_ip(tokens)


class Adapter(nn.Module):
    """An IP-Adapter with IRA; its state dict has the file's own keys, every width read from the weights.

    `ip_adapter` holds one KeyValueProjection a block in the file's order: input blocks, output blocks, middle.
    """

    def __init__(self, state: dict[str, Tensor], heads: int = 4, operations=nn):
        """state: checked, flat, as `read_adapter` gives it. operations: who makes the layers (torch.nn's default)."""
        super().__init__()
        projection, width = state["image_proj.proj.weight"], state["image_proj.norm.weight"].shape[0]
        dtype = projection.dtype
        self.image_proj = ImageProjection(projection.shape[1], width, projection.shape[0] // width, operations, dtype)
        self.ip_adapter = nn.ModuleDict(
            {
                slot: KeyValueProjection(width, state[f"ip_adapter.{slot}.to_k_ip.weight"].shape[0], operations, dtype)
                for slot in _slots(state)
            }
        )
        self.has_trained_ira = IRA_KEYS[0] in state
        self.ira = InterestRetrieveAttention(width, heads, operations, dtype)
        self.load_state_dict({**self.ira_state(), **state})

    def ira_state(self) -> dict[str, Tensor]:
        return {f"ira.{key}": value for key, value in self.ira.state_dict().items()}

    @property
    def width(self) -> int:
        return self.ira.to_q.weight.shape[0]

    @property
    def image_width(self) -> int:
        return self.image_proj.proj.weight.shape[1]

    @property
    def channels(self) -> list[int]:
        """Channels of each block, in the file's order."""
        return [block.to_k_ip.weight.shape[0] for block in self.ip_adapter.values()]

    def project_image(self, image_embeds: Tensor) -> Tensor:
        """(n, image_width) → (n, tokens, width); refuses embeddings of another encoder's width."""
        if image_embeds.shape[-1] != self.image_width:
            raise ValueError(
                f"the adapter's image projection takes {self.image_width}-d image embeddings, but the CLIP Vision "
                f"model gives {image_embeds.shape[-1]}-d; load the CLIP Vision model that the adapter was trained "
                f"with ({_encoder_of_width(self.image_width)})"
            )
        return self.image_proj(image_embeds)

    def null_image_tokens(self, image_embeds: Tensor) -> Tensor:
        """Proj_img(0), what stands for no picture under classifier-free guidance, in the shape of those pictures'."""
        return self.project_image(torch.zeros_like(image_embeds))

    def keys_values(self, tokens: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(n, tokens, width) → key and value of every block, in the file's order."""
        return [block(tokens) for block in self.ip_adapter.values()]


def read_adapter(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The checked weights of an IP-Adapter file and its metadata ({} for a stock one).

    Reads `.safetensors`, and the official `.bin` (nested, weights only: nothing in it is executed). Raises
    ValueError naming the file when it is another kind of adapter, lacks keys, or has widths that do not fit.
    """
    try:
        state, metadata = _read_safetensors(path) if path.suffix == ".safetensors" else (_read_pickled(path), {})
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"'{path.name}' could not be read as adapter weights ({error}); it may be cut short, or hold more "
            "than weights: download it again, or use the .safetensors version"
        ) from error
    _check(path.name, state)
    if metadata.get("format_version", FORMAT_VERSION) > FORMAT_VERSION:
        raise ValueError(
            f"'{path.name}' has I-AM-G format version {metadata['format_version']}, this pack reads up to "
            f"{FORMAT_VERSION}; update the pack"
        )
    return state, metadata


def write_adapter(path: Path, state: dict[str, Tensor], metadata: dict) -> None:
    """Write flat, contiguous weights as one `.safetensors` that `read_adapter` gives back; whole or not at all.

    metadata: what JSON can hold, `heads` among it; `format_version` is added. Raises ValueError when the weights
    are no plain IP-Adapter's or not all finite, OSError when the disk refuses them.
    """
    if path.suffix != ".safetensors":
        raise ValueError(f"adapter weights are written as .safetensors, not as '{path.name}'; give such a name")
    _check(path.name, state)
    broken = next((key for key, value in state.items() if not value.isfinite().all()), None)
    if broken:
        dtype = str(state[broken].dtype).removeprefix("torch.")
        raise ValueError(
            f"'{path.name}' was not written: {broken} has numbers that are not finite in {dtype}; write float32, or "
            "take the weights of an earlier step"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    header = {METADATA_KEY: json.dumps({**metadata, "format_version": FORMAT_VERSION})}
    try:
        save_file(state, beside, header)
        os.replace(beside, path)
    except (OSError, SafetensorError) as error:
        beside.unlink(missing_ok=True)
        raise OSError(f"'{path}' could not be written ({error}); make room on the disk, or write elsewhere") from error


def load_adapter(path: Path, operations=nn) -> Adapter:
    """The adapter of a file, on the CPU, in the file's dtype."""
    state, metadata = read_adapter(path)
    return Adapter(state, metadata.get("heads", 4), operations).eval().requires_grad_(False)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    with safe_open(path, framework="pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}
        return state, json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))


def _read_pickled(path: Path) -> dict[str, Tensor]:
    nested = torch.load(path, map_location="cpu", weights_only=True)
    return {
        f"{part}.{key}": value
        for part, entries in nested.items()
        if isinstance(entries, dict)
        for key, value in entries.items()
        if isinstance(value, Tensor)
    }


def _slots(state: dict[str, Tensor]) -> list[str]:
    slots = {key.split(".")[1] for key in state if key.startswith("ip_adapter.")}
    return sorted(slots, key=lambda slot: (len(slot), slot))


def _check(name: str, state: dict[str, Tensor]) -> None:
    for key, kind in OTHER_KINDS.items():
        if key in state:
            raise ValueError(
                f"'{name}' is {kind}; I-AM-G takes the plain IP-Adapter, such as ip-adapter_sd15.safetensors"
            )
    slots = _slots(state)
    missing = [key for key in REQUIRED if key not in state]
    missing += [
        key
        for slot in slots
        for key in (f"ip_adapter.{slot}.to_k_ip.weight", f"ip_adapter.{slot}.to_v_ip.weight")
        if key not in state
    ]
    if any(key.startswith("ira.") for key in state):
        missing += [key for key in IRA_KEYS if key not in state]
    if missing or not slots:
        what = ", ".join(missing[:3]) or "ip_adapter.<n>.to_k_ip.weight"
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(
            f"'{name}' lacks {what}{more}, so it is no complete IP-Adapter file; download it again, or use "
            "ip-adapter_sd15.safetensors or a file exported by iamg-train"
        )

    width = state["image_proj.norm.weight"].shape[0]
    rows = state["image_proj.proj.weight"].shape[0]
    expected = {"image_proj.proj.bias": (rows,), "image_proj.norm.bias": (width,)}
    expected |= {key: (width, width) for key in IRA_KEYS if key in state}
    for slot in slots:
        channels = state[f"ip_adapter.{slot}.to_k_ip.weight"].shape[0]
        expected |= {f"ip_adapter.{slot}.to_{part}_ip.weight": (channels, width) for part in "kv"}
    wrong = [key for key, shape in expected.items() if tuple(state[key].shape) != shape]
    if rows % width:
        wrong.insert(0, "image_proj.proj.weight")
        expected["image_proj.proj.weight"] = (
            f"a multiple of {width}",
            state["image_proj.proj.weight"].shape[1],
        )
    if wrong:
        key = wrong[0]
        raise ValueError(
            f"'{name}' has {key} of shape {tuple(state[key].shape)} where {expected[key]} is expected (its tokens "
            f"are {width}-d); the file mixes weights of different models"
        )
    unknown = [key for key in state if key not in expected and key not in REQUIRED]
    if unknown:
        raise ValueError(f"'{name}' has {unknown[0]}, which no plain IP-Adapter has; is it another kind of file?")


def _encoder_of_width(width: int) -> str:
    known = {1024: "CLIP-ViT-H-14", 1280: "CLIP-ViT-bigG-14", 768: "CLIP-ViT-L-14"}
    return known.get(width, f"one with a {width}-d projection")
