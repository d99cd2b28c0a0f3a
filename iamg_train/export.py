"""`iamg-train export`: a checkpoint, put together with what stayed frozen, as the one file that loaders read."""

from argparse import Namespace
from pathlib import Path

import torch
from torch import Tensor

from iamg.adapter import read_adapter, write_adapter
from iamg_train.checkpoints import find_checkpoint, part, read_checkpoint
from iamg_train.encoders import weights_fingerprint
from iamg_train.pool_commands import console

WEIGHTS = "weights.safetensors"  # in a run's folder


def run(arguments: Namespace) -> int:
    out = export(
        arguments.source,
        arguments.out or _beside(arguments.source),
        arguments.dtype,
        arguments.ema,
        arguments.ip_adapter,
    )
    _, metadata = read_adapter(out)
    kind = "averaged weights (EMA)" if metadata["ema"] else "weights"
    console.print(f"{kind} of step {metadata['steps']}: {out} ({out.stat().st_size / 2**20:.0f} MiB)", markup=False)
    return 0


def export(source: Path, out: Path, dtype: str = "float16", ema: bool | None = None, base: Path | None = None) -> Path:
    """Write the weights of a checkpoint, or of the newest one of a run's folder, to `out`.

    dtype: a name of torch's. ema: the averaged weights, or not (default: where there are some). base: the IP-Adapter file
    that training started from, if it is no longer where it was; its frozen image projection is part of the weights.
    Raises ValueError when the base is another file than it was, FileNotFoundError when something is not there.
    """
    tensors, values = read_checkpoint(source if source.is_file() else find_checkpoint(source))
    averaged = part(tensors, "ema.")
    if ema and not averaged:
        raise ValueError(f"'{source}' has no averaged weights: it was trained with ema_decay 0; leave out --ema")
    ema = bool(averaged) if ema is None else ema
    recorded = values["export"]
    state = _projection(base or Path(recorded["ip_adapter"]), recorded["ip_adapter_fingerprint"])
    state |= averaged if ema else part(tensors, "weights.")
    metadata = {**recorded, "ip_adapter": Path(recorded["ip_adapter"]).name, "steps": values["step"], "ema": ema}
    write_adapter(out, in_dtype(state, dtype), metadata)
    return out


def projection_fingerprint(state: dict[str, Tensor]) -> str:
    """Of an IP-Adapter's image projection, the part of its file that every fine-tuned file takes over unchanged."""
    return weights_fingerprint(_frozen(state))


def in_dtype(state: dict[str, Tensor], dtype: str) -> dict[str, Tensor]:
    return {key: value.to(getattr(torch, dtype)).contiguous() for key, value in state.items()}


def _projection(base: Path, fingerprint: str) -> dict[str, Tensor]:
    if not base.is_file():
        raise FileNotFoundError(
            f"the IP-Adapter that training started from is not at '{base}'; give it as --ip-adapter"
        )
    state, _ = read_adapter(base)
    if (found := projection_fingerprint(state)) != fingerprint:
        raise ValueError(
            f"the image projection of '{base}' is not the one that training started from (fingerprint {found}, "
            f"expected {fingerprint}); give that IP-Adapter file as --ip-adapter"
        )
    return _frozen(state)


def _frozen(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.startswith("image_proj.")}


def _beside(source: Path) -> Path:
    return source / WEIGHTS if source.is_dir() else source.with_name(f"weights_{source.name}")
