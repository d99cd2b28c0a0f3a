"""The masks of objectives' foregrounds (section 4.3): rembg's, or a folder of the user's own."""

import io
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Protocol

from PIL import Image

from iamg.pictures import open_picture, resolve_inside
from iamg_train.objectives import Objective
from iamg_train.whole_files import file_hash, write_whole

FOLDER = "foregrounds"
MODEL = "isnet-general-use"  # rembg's name of the paper's DIS
WHITE = 128  # a mask with nothing this light shows no foreground


class Masks(Protocol):
    """Where masks come from."""

    def key(self, objective: Objective) -> str | None:
        """A file name for the content of the mask; None where there is no mask."""
        ...

    def make(self, objective: Objective) -> Image.Image:
        """The mask in grey, white where the foreground is."""
        ...


class RembgMasks:
    """Masks by the network that the paper takes; it is loaded for the first one."""

    def __init__(self, items: Path):
        self.items = items

    def key(self, objective: Objective) -> str:
        return f"{objective.picture_hash}-{MODEL}"

    def make(self, objective: Objective) -> Image.Image:
        return self._remove(open_picture(resolve_inside(self.items, objective.picture)))

    @cached_property
    def _remove(self) -> Callable[[Image.Image], Image.Image]:
        try:
            from rembg import new_session, remove
        except (ImportError, SystemExit) as error:  # without onnxruntime, rembg leaves the interpreter
            raise ValueError(
                'foreground = "rembg" needs rembg; run: pip install "rembg[cpu]", or choose "none" or "masks"'
            ) from error
        try:
            return partial(remove, session=new_session(MODEL), only_mask=True)
        except Exception as error:  # of the download, the file, or ONNX Runtime
            raise ValueError(
                f"rembg cannot load {MODEL} ({error}); put {MODEL}.onnx into the folder that U2NET_HOME names"
            ) from error


class FolderMasks:
    """Masks that lie in a folder as <item id>.png or <the picture's name>.png."""

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"the folder of masks {folder} does not exist; give masks a folder of <item id>.png"
            )
        self._files = {path.stem: path for path in folder.glob("*.png")}

    def key(self, objective: Objective) -> str | None:
        path = self._path(objective)
        return path and f"{objective.picture_hash}-{file_hash(path)}"

    def make(self, objective: Objective) -> Image.Image:
        return open_picture(self._path(objective)).convert("L")

    def _path(self, objective: Objective) -> Path | None:
        return self._files.get(objective.item_id) or self._files.get(PurePosixPath(objective.picture).stem)


def find_foregrounds(
    prepared: Path, objectives: Sequence[Objective], masks: Masks, progress: Callable[[int, int], None]
) -> dict[str, str]:
    """Each objective's mask, relative to the prepared folder; those that are there already are not made again.

    Without an entry: objectives that have no mask, or one that shows no foreground.
    """
    (prepared / FOLDER).mkdir(parents=True, exist_ok=True)
    found = {}
    for done, objective in enumerate(objectives, 1):
        if key := masks.key(objective):
            name = f"{FOLDER}/{key}.png"
            if not (prepared / name).is_file():
                write_whole(prepared / name, _png(masks.make(objective)))
            with Image.open(prepared / name) as mask:
                if mask.getextrema()[1] >= WHITE:
                    found[objective.item_id] = name
        progress(done, len(objectives))
    return found


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
