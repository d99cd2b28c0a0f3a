"""The family as the files that every command reads: an SD1.5 checkpoint, a CLIP Vision, two adapters."""

from pathlib import Path
from typing import NamedTuple

from safetensors.torch import save

from iamg.mini.family import Family, read_family
from iamg.mini.places import ADAPTER, FAMILY, IP_ADAPTER, family_files
from iamg_train.whole_files import file_hash, write_whole

MADE_FROM = "made_from.txt"


class MiniFiles(NamedTuple):
    """Where they lie."""

    checkpoint: Path
    clip_vision: Path
    ip_adapter: Path  # what fine-tuning starts from
    adapter: Path  # what it leads to, with IRA

    def as_settings(self) -> dict[str, Path]:
        """The keys of a run's settings that name weights, for a run that starts from these."""
        return {"checkpoint": self.checkpoint, "clip_vision": self.clip_vision, "ip_adapter": self.ip_adapter}


def unpack(folder: Path) -> MiniFiles:
    """The shipped family's files in `folder`; they are written where they are not there, or are of other weights."""
    files = MiniFiles(*family_files(folder), IP_ADAPTER, ADAPTER)
    shipped, mark = file_hash(FAMILY), folder / MADE_FROM
    if not (mark.is_file() and mark.read_text() == shipped and all(path.is_file() for path in files)):
        write_family_files(folder, read_family())
        write_whole(mark, shipped.encode())
    return files


def write_family_files(folder: Path, family: Family) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path, weights in zip(family_files(folder), (family.checkpoint, family.clip_vision), strict=True):
        write_whole(path, save({key: tensor.contiguous() for key, tensor in weights.items()}))
