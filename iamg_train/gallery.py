"""A folder of drawn pictures, each with the settings that it was drawn with inside; manifest.jsonl lists them all."""

import io
import json
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from iamg.pictures import resolve_inside
from iamg_train.safe_names import safe_name
from iamg_train.whole_files import write_whole

KEY = "iamg"  # of the settings among a PNG's text chunks
MANIFEST = "manifest.jsonl"
SHOWN = 3  # changed settings in an error


class Gallery:
    """Pictures as <user>/<objective>_<n>.png; the manifest is made of what the pictures say."""

    def __init__(self, folder: Path):
        self.folder = folder
        files = sorted(folder.glob("*/*.png"))
        self._drawn = {path.relative_to(folder).as_posix(): _read_settings(path) for path in files}

    def holds(self, name: str, settings: dict) -> bool:
        """Whether that picture is there; ValueError if one of other settings, or of other origin, has its place."""
        path = resolve_inside(self.folder, name)
        if name not in self._drawn:
            return False
        drawn = self._drawn[name]
        if drawn is None:
            raise ValueError(f"{path} was not drawn by `iamg-train generate`; choose another --out")
        changed = [key for key in settings | drawn if settings.get(key) != drawn.get(key)]
        if changed:
            shown = "; ".join(f"{key} was {drawn.get(key)!r}, is {settings.get(key)!r}" for key in changed[:SHOWN])
            raise ValueError(f"{path} was drawn with other settings ({shown}); choose another --out")
        return True

    def add(self, name: str, picture: Image.Image, settings: dict) -> None:
        """Save a picture, whole or not at all. settings: of JSON's types."""
        path = resolve_inside(self.folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        text, content = PngInfo(), io.BytesIO()
        text.add_text(KEY, json.dumps(settings))
        picture.save(content, "PNG", pnginfo=text)
        write_whole(path, content.getvalue())
        self._drawn[name] = settings

    def write_manifest(self) -> None:
        """A line for every picture: its file, and its settings."""
        self.folder.mkdir(parents=True, exist_ok=True)
        drawn = sorted(self._drawn.items())
        lines = [json.dumps({"file": name, **settings}) + "\n" for name, settings in drawn if settings]
        write_whole(self.folder / MANIFEST, "".join(lines).encode())


def picture_name(user_id: str, objective: str, number: int) -> str:
    """Where a picture lies in a gallery, whatever characters the ids have."""
    return f"{safe_name(user_id)}/{safe_name(objective)}_{number}.png"


def _read_settings(path: Path) -> dict | None:
    """What `Gallery.add` wrote; None for any other file."""
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            settings = json.loads(picture.info[KEY])
    except Exception:  # Pillow's decoders raise nearly every built-in exception on damaged files
        return None
    return settings if isinstance(settings, dict) else None
