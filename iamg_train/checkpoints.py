"""Checkpoints of a run: one safetensors file each, whole or not there, with nothing in it that could execute.

Tensors are flat: "weights.<adapter key>", "ema.<adapter key>", "optimizer.<parameter>.<name>" and what else a
caller adds. Numbers and text are one JSON object in the header, with `format_version` and `step`.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FOLDER = "checkpoints"  # in a run's folder
FORMAT_VERSION = 1
METADATA_KEY = "iamg_checkpoint"

# An optimizer's state is tensors, and in some optimizers plain numbers; their type is kept behind the name.
NUMBERS = {"int": torch.int64, "float": torch.float64, "bool": torch.bool}

logger = logging.getLogger(__name__)


def save_checkpoint(folder: Path, step: int, tensors: dict[str, Tensor], values: dict, keep: int) -> Path:
    """Write step_<step>.safetensors into `folder` (a run's "checkpoints"), then delete all but the last `keep`.

    tensors: of any device and layout; they may share memory. values: what JSON can hold. OSError when the disk is
    full: what was written is removed and the checkpoints before it stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{step:08d}.safetensors"
    beside = path.with_name(path.name + ".part")
    header = {**values, "format_version": FORMAT_VERSION, "step": step}
    try:
        save_file(_apart(tensors), beside, {METADATA_KEY: json.dumps(header)})
        with beside.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except (OSError, SafetensorError) as error:
        beside.unlink(missing_ok=True)
        size = sum(tensor.nbytes for tensor in tensors.values())
        raise OSError(
            f"checkpoint {path} could not be written ({error}); it takes {size / 2**20:.0f} MiB. The checkpoints before "
            "it are kept: make room on the disk and resume"
        ) from error
    older = [file for file in _newest_first(folder) if file.name < path.name]
    for file in [*older[keep - 1 :], *folder.glob("*.part")]:
        file.unlink(missing_ok=True)
    return path


def find_checkpoint(run: Path, which: str = "latest") -> Path:
    """The run's newest checkpoint that can be read (a damaged one is warned of), or the one that `which` is a path of.

    FileNotFoundError when there is none, ValueError when none can be read; both say what there is.
    """
    if which != "latest":
        if not Path(which).is_file():
            raise FileNotFoundError(f"there is no checkpoint '{which}'; {_inventory(run)}")
        read_values(Path(which))
        return Path(which)
    problems = []
    for path in _newest_first(run / FOLDER):
        try:
            read_values(path)
        except ValueError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            logger.warning("%s; %s is taken instead", problem, path.name)
        return path
    if problems:
        raise ValueError("; ".join([*problems, f"run '{run}' has no other checkpoint, start it anew"]))
    raise FileNotFoundError(f"run '{run}' has no checkpoint to go on from; {_inventory(run)}")


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors, on the CPU, and the values of a checkpoint; ValueError naming the file when it is none."""
    values = read_values(path)
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}, values


def read_values(path: Path) -> dict:
    """The values alone, without reading the tensors; ValueError when the file is damaged, no checkpoint, or newer."""
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {})[METADATA_KEY])
    except KeyError:
        raise ValueError(f"'{path}' is no checkpoint of a run, but another safetensors file") from None
    except FileNotFoundError:
        raise
    except (OSError, SafetensorError, ValueError) as error:
        raise ValueError(f"checkpoint '{path}' is damaged ({error})") from None
    if values["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"checkpoint '{path}' has format version {values['format_version']}, this iamg-train reads up to "
            f"{FORMAT_VERSION}; update it"
        )
    return values


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix` ("weights.", "ema."), under the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict]]:
    """An optimizer's whole state: tensors "optimizer.<parameter>.<name>", and param_groups for the JSON values."""
    state = optimizer.state_dict()
    return dict(_flat(state["state"], "optimizer")), state["param_groups"]


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], param_groups: Sequence[dict]
) -> None:
    """Put back what `optimizer_tensors` gave, bit for bit; among `tensors` may be others of the checkpoint."""
    state: dict[int, dict] = {}
    for key, tensor in part(tensors, "optimizer.").items():
        index, *folders, name = key.split(".")
        entries = state.setdefault(int(index), {})
        for folder in folders:
            entries = entries.setdefault(folder, {})
        name, _, kind = name.partition(":")
        entries[name] = tensor.item() if kind else tensor
    groups = [
        {key: tuple(value) if isinstance(current.get(key), tuple) else value for key, value in group.items()}
        for group, current in zip(param_groups, optimizer.param_groups, strict=True)  # JSON knows no tuples
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _flat(value: dict | Tensor | int | float, key: str) -> Iterator[tuple[str, Tensor]]:
    """Tensors under dotted names; bitsandbytes nests its state."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}")
    elif isinstance(value, Tensor):
        yield key, value
    else:
        kind = type(value).__name__
        yield f"{key}:{kind}", torch.tensor(value, dtype=NUMBERS[kind])


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU: safetensors takes no two tensors of one memory."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step_*.safetensors"), reverse=True)


def _inventory(run: Path) -> str:
    names = [path.name for path in _newest_first(run / FOLDER)]
    return f"'{run / FOLDER}' holds {', '.join(names) or 'none'}"
