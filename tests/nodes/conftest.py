"""Loads the pack into a real ComfyUI, as ComfyUI does: by path, under a name of its own."""

import asyncio
import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".comfyui")
HERE = Path(__file__).parent

if (COMFYUI / "comfy_api").is_dir():
    sys.path.insert(0, str(COMFYUI))  # before the pack's root, so that `import nodes` is ComfyUI's
    sys.path.append(str(HERE))  # rig.py
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = True
    import torch

    torch.set_num_threads(1)  # the rig's tensors are too small to share
    spec = importlib.util.spec_from_file_location("pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    sys.modules["pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["pack"])
    asyncio.run(asyncio.run(sys.modules["pack"].comfy_entrypoint()).on_load())
else:
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.comfy)


def pytest_report_header():
    if not (COMFYUI / "comfy_api").is_dir():
        return f"ComfyUI is not at {COMFYUI}: tests/nodes is left out (make comfyui, or set COMFYUI_PATH)"
    return f"ComfyUI: {COMFYUI}"
