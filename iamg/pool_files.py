"""The files of a pool folder: its manifest with checksums, and how a new pool takes an old one's place."""

import json
import os
import shutil
from pathlib import Path

import xxhash

MANIFEST = "pool.json"
TEXT_VECTORS, IMAGE_VECTORS = "text.safetensors", "image.safetensors"
TEXT_INDEX, IMAGE_INDEX = "text.faiss", "image.faiss"
ITEMS = "items.sqlite"
CHECKED_FILES = (TEXT_VECTORS, IMAGE_VECTORS, TEXT_INDEX, IMAGE_INDEX, ITEMS)
FORMAT_VERSION = 2
BUILDING, REPLACED = ".building", ".replaced"  # suffixes of the folders beside a pool that is being made

_TYPES = {
    "version": int,
    "count": int,
    "text_width": int,
    "image_width": int,
    "crop": str,
    "tagger": str,
    "scenario": str,
    "index": dict,
    "skipped": list,
    "files": dict,
}


def building_folder(pool: Path) -> Path:
    return pool.with_name(pool.name + BUILDING)


def thumbnail_path(row: int) -> str:
    """Path of a thumbnail inside its pool."""
    return f"thumbs/{row // 1000}/{row}.jpg"


def write_manifest(folder: Path, fields: dict[str, object]) -> None:
    """Writes pool.json: the fields, and size and checksum of each file and of the manifest itself."""
    files = {
        name: {"bytes": (folder / name).stat().st_size, "xxh3_64": checksum(folder / name)} for name in CHECKED_FILES
    }
    manifest = {"version": FORMAT_VERSION, **fields, "files": files}
    manifest["xxh3_64"] = _checksum_of_manifest(manifest)
    part = folder / f"{MANIFEST}.part"
    with part.open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, folder / MANIFEST)


def read_manifest(pool: Path) -> dict[str, object]:
    """The manifest, checked; ValueError naming pool and file for anything that is not as it was written."""
    path = pool / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{pool} is no pool: it has no {MANIFEST}; choose a pool, or build one")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(pool, f"{MANIFEST} is not JSON ({error})") from error
    version = manifest.get("version") if isinstance(manifest, dict) else None
    if type(version) is int and version != FORMAT_VERSION:
        raise ValueError(
            f"pool '{pool.name}' has format version {version}, this I-AM-G reads {FORMAT_VERSION}; "
            "update I-AM-G, or rebuild the pool"
        )
    problem = _problem_with(manifest)
    if problem:
        raise damaged(pool, f"{MANIFEST} {problem}")
    return manifest


def check_files(pool: Path, manifest: dict) -> list[str]:
    """What is wrong with the files, by size and checksum of the manifest."""
    problems = []
    for name in CHECKED_FILES:
        expected = manifest["files"][name]
        if not (pool / name).is_file():
            problems.append(f"{name} is missing")
        elif (size := (pool / name).stat().st_size) != expected["bytes"]:
            problems.append(f"{name} has {size} bytes instead of {expected['bytes']}")
        elif checksum(pool / name) != expected["xxh3_64"]:
            problems.append(f"{name} does not hold what was written")
    return problems


def damaged(pool: Path, problem: str) -> ValueError:
    return ValueError(f"pool '{pool.name}' is damaged: {problem}; copy the pool again, or rebuild it")


def checksum(path: Path) -> str:
    """xxh3_64 of a file."""
    digest = xxhash.xxh3_64()
    with path.open("rb", buffering=0) as file:
        buffer = memoryview(bytearray(1 << 20))
        while size := file.readinto(buffer):
            digest.update(buffer[:size])
    return digest.hexdigest()


def recover(pool: Path) -> None:
    """Puts the old pool back when a crash came between the two renames of `replace`."""
    old = pool.with_name(pool.name + REPLACED)
    if not pool.exists() and (old / MANIFEST).is_file():
        os.rename(old, pool)


def replace(pool: Path, building: Path) -> None:
    """Puts a finished folder in a pool's place; a failure leaves the old pool there, or for `recover`."""
    old = pool.with_name(pool.name + REPLACED)
    if pool.exists():
        _delete_pool(old)
        os.rename(pool, old)
    os.rename(building, pool)
    _delete_pool(old)


def _delete_pool(folder: Path) -> None:
    """Deletes what is left of a replaced pool, and nothing else that a user may keep under that name."""
    if folder.exists():
        left = {path.name for path in folder.iterdir()}
        if left and not left & {MANIFEST, *CHECKED_FILES, "thumbs"}:
            raise ValueError(f"{folder} is in the way and is no pool; move it elsewhere")
        shutil.rmtree(folder)


def _problem_with(manifest: object) -> str | None:
    if not isinstance(manifest, dict):
        return "holds no JSON object"
    for key, kind in _TYPES.items():
        if type(manifest.get(key)) is not kind:
            return f"has no {key} of type {kind.__name__}"
    if min(manifest[key] for key in ("version", "count", "text_width", "image_width")) < 1:
        return "has a version, count or width below 1"
    if not all(_describes_index(manifest["index"].get(side)) for side in ("text", "image")):
        return "does not describe the index of text and image"
    if not all(_describes_file(manifest["files"].get(name)) for name in CHECKED_FILES):
        return f"does not give bytes and xxh3_64 of each of {', '.join(CHECKED_FILES)}"
    if manifest.get("xxh3_64") != _checksum_of_manifest(manifest):
        return "does not hold what was written"
    return None


def _describes_index(index: object) -> bool:
    if not isinstance(index, dict) or index.get("kind") not in ("exact", "ivf"):
        return False
    keys = ("lists", "probes") if index["kind"] == "ivf" else ()
    return all(type(index.get(key)) is int and index[key] >= 1 for key in keys)


def _describes_file(file: object) -> bool:
    return isinstance(file, dict) and type(file.get("bytes")) is int and type(file.get("xxh3_64")) is str


def _checksum_of_manifest(manifest: dict) -> str:
    fields = {key: value for key, value in manifest.items() if key != "xxh3_64"}
    return xxhash.xxh3_64_hexdigest(json.dumps(fields, sort_keys=True).encode())
