"""A questionnaire as one HTML file that loads nothing and sends nothing."""

import base64
import hashlib
import json
from html import escape
from importlib.resources import files
from pathlib import Path

import xxhash

from iamg.pictures import open_picture
from iamg_train.page_pictures import data_address, small_file
from iamg_train.page_style import STYLE

SCRIPT = "<script>", "</script>"


class Images:
    """The pictures of a page, each once, and nothing of their files but what they look like."""

    def __init__(self):
        self._table: dict[str, dict] = {}

    def add(self, path: Path, side: int) -> str:
        """The picture's name in the table, by what it looks like; it is shown at most `side` pixels large."""
        content, kind, (width, height) = small_file(open_picture(path), side)
        name = xxhash.xxh3_64_hexdigest(content)
        self._table[name] = {"source": data_address(content, kind), "width": width, "height": height}
        return name

    def table(self) -> dict[str, dict]:
        """Sorted: the order in which they were added would tell whose they are."""
        return dict(sorted(self._table.items()))


def page_of(study: dict) -> bytes:
    """study: id, phi, each, questions, checks, images, as the page's script reads them.

    Its policy lets a browser run that script alone, whatever a stranger's titles hold, and reach no network.
    """
    template = files("iamg_train.evaluation").joinpath("questionnaire.html").read_text(encoding="utf-8")
    script = template.rsplit(SCRIPT[0], 1)[1].split(SCRIPT[1])[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    data = json.dumps(study, ensure_ascii=False).replace("<", "\\u003c")
    parts = {"policy": escape(policy), "style": STYLE, "study": data}
    before, *rest = template.split("{{")
    return "".join([before, *(parts[name] + after for name, after in (x.split("}}", 1) for x in rest))]).encode()
