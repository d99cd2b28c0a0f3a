"""`iamg-train convert`: weights of IP-Adapter's own training script, or the official `.bin`, as safetensors.

The script's checkpoints are folders written by accelerate, with the whole U-Net in them. The adapter's matrices lie
there as `adapter_modules.<n>.*`; or, since safetensors keeps one name of shared weights, only as the U-Net's
`unet.<block>.attn2.processor.*`.
"""

import re
from argparse import Namespace
from pathlib import Path

from torch import Tensor

from iamg.adapter import read_adapter, write_adapter
from iamg_train.clip_files import read_weights
from iamg_train.export import in_dtype
from iamg_train.pool_commands import console

ACCELERATE_FILES = ("model.safetensors", "pytorch_model.bin")
SCRIPT_PARTS = ("unet.", "image_proj_model.", "adapter_modules.")
STAGES = ("down_blocks", "up_blocks", "mid_block")  # the order in which blocks are numbered
PROCESSOR = re.compile(rf"unet\.(?P<block>(?:{'|'.join(STAGES)})\..+\.attn2)\.processor\.(?P<name>.+)")


def run(arguments: Namespace) -> int:
    convert(arguments.source, arguments.out, arguments.dtype)
    console.print(f"{arguments.out} ({arguments.out.stat().st_size / 2**20:.0f} MiB)", markup=False)
    return 0


def convert(source: Path, out: Path, dtype: str = "float16") -> None:
    """Write the adapter of an accelerate folder, or of an adapter file (.bin, .safetensors), as one `.safetensors`.

    Nothing in `source` is executed. ValueError when it holds no plain IP-Adapter, saying what was found.
    """
    path = _weights_file(source) if source.is_dir() else source
    weights = {key.removeprefix("module."): value for key, value in read_weights(path).items()}  # from several GPUs
    if any(key.startswith(SCRIPT_PARTS) for key in weights):
        state, metadata = _adapter_of_script(weights, path), {}
    else:
        state, metadata = read_adapter(path)
    write_adapter(out, in_dtype(state, dtype), metadata)


def _weights_file(folder: Path) -> Path:
    for name in ACCELERATE_FILES:
        if (folder / name).is_file():
            return folder / name
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise ValueError(
        f"'{folder}' holds {found}, but not {' or '.join(ACCELERATE_FILES)}; give a checkpoint folder as accelerate "
        "writes it, such as checkpoint-2000, or the file of weights itself"
    )


def _adapter_of_script(weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    blocks = _renamed(weights, "adapter_modules.", "ip_adapter.") or _processors(weights)
    if not blocks:
        parts = sorted({key.split(".")[0] for key in weights})
        raise ValueError(
            f"'{path}' holds {', '.join(parts)}, but no to_k_ip and to_v_ip, neither under adapter_modules nor in "
            "the U-Net's processors; it was not written by IP-Adapter's training script"
        )
    return _renamed(weights, "image_proj_model.", "image_proj.") | blocks


def _renamed(weights: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {new + key.removeprefix(old): value for key, value in weights.items() if key.startswith(old)}


def _processors(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The U-Net's cross-attention processors, numbered as the script numbers them: 1, 3, 5 ..."""
    found = [(match, value) for key, value in weights.items() if (match := PROCESSOR.fullmatch(key))]
    blocks = sorted({match["block"] for match, _ in found}, key=_place)
    return {f"ip_adapter.{2 * blocks.index(match['block']) + 1}.{match['name']}": value for match, value in found}


def _place(block: str) -> tuple[int, list[int]]:
    return STAGES.index(block.split(".")[0]), [int(number) for number in re.findall(r"\d+", block)]
