"""Where the pack's own weights lie."""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("weights")
FAMILY = WEIGHTS / "iamg_mini.safetensors"
CARD = WEIGHTS / "iamg_mini.json"
ADAPTERS = WEIGHTS / "ipadapter"
ADAPTER = ADAPTERS / "iamg_mini.safetensors"  # with IRA, as `iamg-train fit` left it
IP_ADAPTER = ADAPTERS / "iamg_mini_ip_adapter.safetensors"  # what it started from


def family_files(folder: Path) -> tuple[Path, Path]:
    """The family's SD1.5 checkpoint and CLIP Vision as files of their own in a folder."""
    return folder / "iamg_mini_checkpoint.safetensors", folder / "iamg_mini_clip_vision.safetensors"
