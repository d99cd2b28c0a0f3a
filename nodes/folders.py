"""ComfyUI's own folders that the nodes read and write; nothing outside them is ever touched."""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import mkdtemp

import folder_paths

from ..iamg.mini.places import ADAPTERS as MINI_ADAPTERS
from ..iamg.pictures import resolve_inside
from ..iamg.pool_files import BUILDING, MANIFEST, REPLACED
from ..iamg.scenarios import Scenario, load_scenarios
from ..iamg.tagging import MINI_CLIP
from ..iamg.tagging.model_folder import CONFIG as LANGUAGE_CONFIG
from ..iamg.tagging.open_clip_files import CONFIG as CLIP_CONFIG

log = logging.getLogger(__name__)

ADAPTERS, POOLS, SCENARIOS, OPEN_CLIP, LLM = "ipadapter", "iamg_pools", "iamg_scenarios", "open_clip", "LLM"
EXTENSIONS = {ADAPTERS: {".safetensors", ".bin"}, POOLS: set(), SCENARIOS: {".toml"}, OPEN_CLIP: set(), LLM: set()}
CATALOGUE_DEPTH = 3
"""How deep under input/ catalogues are looked for."""


def register_model_folders() -> None:
    for name, extensions in EXTENSIONS.items():
        folder_paths.add_model_folder_path(name, os.path.join(folder_paths.models_dir, name))
        folder_paths.folder_names_and_paths[name][1].update(extensions)
    folder_paths.add_model_folder_path(ADAPTERS, str(MINI_ADAPTERS))  # after the user's own


def scenarios() -> dict[str, Scenario]:
    """The built-in scenarios, then the user's own from models/iamg_scenarios/*.toml; a broken file is logged."""
    found = load_scenarios()
    for name in folder_paths.get_filename_list(SCENARIOS):
        try:
            found |= load_scenarios(Path(folder_paths.get_full_path_or_raise(SCENARIOS, name)))
        except ValueError as error:  # the node menu must not fall with it
            log.error("%s; its scenarios are left out", error)
    return found


def pools() -> dict[str, Path]:
    """Every pool in models/iamg_pools by name, the user's first folder winning."""
    found = {}
    for root in map(Path, folder_paths.get_folder_paths(POOLS)):
        for manifest in sorted(root.glob(f"*/{MANIFEST}")):
            if not manifest.parent.name.endswith((BUILDING, REPLACED)):
                found.setdefault(manifest.parent.name, manifest.parent)
    return found


def clip_models() -> dict[str, str | Path]:
    """What the clip tagger can look with, by name: the pack's own model, then the folders in models/open_clip."""
    return _model_folders(OPEN_CLIP, CLIP_CONFIG, {MINI_CLIP: MINI_CLIP})


def language_models() -> dict[str, str | Path]:
    """The folders in models/LLM that transformers can load, by name."""
    return _model_folders(LLM, LANGUAGE_CONFIG, {})


def new_pool_path(name: str) -> Path:
    """Where a pool of that name is written; the name may not lead out of models/iamg_pools."""
    if not name.strip() or name != Path(name).name or name.startswith("."):
        raise ValueError(f"'{name}' is no pool name; give one plain folder name, such as 'posters'")
    root = Path(folder_paths.get_folder_paths(POOLS)[0])
    root.mkdir(parents=True, exist_ok=True)
    return root / name


def temporary_folder() -> Path:
    """A new empty folder under ComfyUI's temp folder, which ComfyUI empties when it starts."""
    root = folder_paths.get_temp_directory()
    os.makedirs(root, exist_ok=True)
    return Path(mkdtemp(prefix="iamg_", dir=root))


def catalogues() -> list[str]:
    """Folders under input/ that hold files, as paths relative to it."""
    return [name for name, files in _input_folders() if name and files]


def interaction_files() -> list[str]:
    """CSV files under input/, as paths relative to it."""
    return [os.path.join(name, file) for name, files in _input_folders() for file in files if file.endswith(".csv")]


def input_path(relative: str) -> Path:
    """A file or folder under input/; ValueError for a path that leads out of it."""
    return resolve_inside(Path(folder_paths.get_input_directory()), relative)


def tag_cache() -> Path:
    return _user_folder() / "tags.sqlite"


def endpoint_settings() -> Path | None:
    """user/iamg/endpoint.toml, None where it is not there: the environment may have the settings."""
    path = _user_folder() / "endpoint.toml"
    return path if path.is_file() else None


def _user_folder() -> Path:
    folder = Path(folder_paths.get_user_directory(), "iamg")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _model_folders(kind: str, config: str, first: Mapping[str, str | Path]) -> dict[str, str | Path]:
    """What comes first, then the folders with that file, by name; what is found first wins."""
    found = dict(first)
    for root in map(Path, folder_paths.get_folder_paths(kind)):
        for path in sorted(root.glob(f"*/{config}")):
            found.setdefault(path.parent.name, path.parent)
    return found


def _input_folders() -> Iterator[tuple[str, list[str]]]:
    root = folder_paths.get_input_directory()
    for folder, subfolders, files in os.walk(root):
        name = os.path.relpath(folder, root)
        if name.count(os.sep) >= CATALOGUE_DEPTH - 1:
            subfolders.clear()
        subfolders[:] = sorted(x for x in subfolders if not x.startswith("."))
        yield "" if name == "." else name, sorted(files)
