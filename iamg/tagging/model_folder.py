"""Folders with models as transformers saves them. They may come from a stranger.

Only safetensors are read as weights, no code that a folder carries is run, and nothing that it names elsewhere is
fetched.
"""

import json
from pathlib import Path

import xxhash

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
TEXTS = ("*.json", "*.jinja", "*.txt", "*.model")  # all that shapes an answer beside the weights
WEIGHTS = "*.safetensors"
NOT_READ = ("consolidated*", "original/*", "onnx/*")  # of a hub repository: the same weights in other forms
KERNEL_KEYS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
SAMPLES, SAMPLE = 64, 1 << 16  # pieces of a weight file that its fingerprint reads, and their bytes


def model_folder(source: str | Path) -> Path:
    """A model's folder, or where huggingface_hub keeps the files of an id such as owner/name, fetched where they are
    not there; FileNotFoundError or ValueError, naming the source, where it is no model that can be trusted."""
    if not Path(source).is_dir():
        source = _fetched(source)
    check_folder(Path(source))
    return Path(source)


def _fetched(source: str | Path) -> Path:
    if isinstance(source, Path) or source.count("/") != 1 or source.startswith(("/", ".", "~")):
        raise FileNotFoundError(f"{source} is no folder; give a model's folder, or an id of the Hugging Face hub")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=[*TEXTS, WEIGHTS], ignore_patterns=list(NOT_READ)))
    except Exception as error:  # huggingface_hub's own are of many kinds
        raise ValueError(f"{source} cannot be fetched from the Hugging Face hub: {error}") from error


def check_folder(folder: Path) -> None:
    """FileNotFoundError or ValueError where a folder has no model, or one that names parts elsewhere."""
    if (folder / ADAPTER).is_file():
        raise ValueError(
            f"{folder} is an adapter to a model that lies elsewhere; merge the two, and give the folder of that"
        )
    if not (folder / CONFIG).is_file() or not any(folder.glob(WEIGHTS)):
        raise FileNotFoundError(
            f"{folder} has no {CONFIG} with .safetensors; a model is a folder as transformers saves it (weights as .bin, "
            ".pt or .gguf are not read)"
        )
    try:
        elsewhere = _kernels(json.loads((folder / CONFIG).read_bytes()))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{folder / CONFIG} is no configuration of a model: {error}") from error
    if elsewhere:
        raise ValueError(f"{folder / CONFIG} names code that lies elsewhere ({elsewhere[0]}); choose another model")


def _kernels(config: object) -> list[str]:
    """The compiled kernels of the hub that a configuration asks for."""
    if not isinstance(config, dict):
        return []
    found = [str(config[key]) for key in KERNEL_KEYS if "/" in str(config.get(key, ""))]
    return found + [kernel for part in config.values() for kernel in _kernels(part)]


def fingerprint(folder: Path) -> str:
    """Checksum of all that shapes an answer; of the weights, which are large, evenly spread pieces."""
    digest = xxhash.xxh3_64()
    for path in sorted(path for pattern in TEXTS for path in folder.glob(pattern)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    for path in sorted(folder.glob(WEIGHTS)):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}".encode())
        with path.open("rb") as file:
            for place in range(SAMPLES):
                file.seek(place * max(size - SAMPLE, 0) // (SAMPLES - 1))
                digest.update(file.read(SAMPLE))
    return digest.hexdigest()
