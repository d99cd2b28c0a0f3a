"""One thread, which small tensors are quickest on, and where a real ComfyUI is, for the tests that start one."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def comfyui() -> Path:
    path = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".comfyui")
    if not (path / "comfy_api").is_dir():
        pytest.skip(f"ComfyUI is not at {path}: run `make comfyui`, or set COMFYUI_PATH")
    return path
