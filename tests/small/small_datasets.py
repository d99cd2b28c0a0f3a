"""Datasets of a few rows in the exact formats of their publishers, and what an import made of them."""

import csv
import json
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from iamg.items import read_items
from iamg_train.cli import main

MOVIES = """movieId,title,genres
1,Toy Story (1995),Adventure|Animation|Children|Comedy|Fantasy
11,"American President, The (1995)",Comedy|Drama|Romance
29,"City of Lost Children, The (Cité des enfants perdus, La) (1995)",Adventure|Drama
171749,Death Note: Desu nôto (2006–2007),(no genres listed)
"""
RATINGS = """userId,movieId,rating,timestamp
1,1,4.0,964982703
1,11,3.5,964981247
2,29,5.0,1445714835
2,1,0.5,1445714800
"""
LINKS = """movieId,imdbId,tmdbId
1,0114709,862
11,0112346,9087
29,0112682,902
171749,0877057,
"""
TAGS = """userId,movieId,tag,timestamp
336,1,pixar,1139045764
474,1,Pixar,1137206825
474,1,fun,1137206825
567,1,"zany, but good",1525286013
567,1,in Netflix queue,1525286014
"""

FILMS_1M = "1::Toy Story (1995)::Animation|Children's|Comedy\n2::Misérables, Les (1995)::Drama|Musical\n"
RATINGS_1M = "1::1::5::978824268\n1::2::3::978302109\n2::2::4::978299000\n"

NEWS = (
    "N1\tlifestyle\troyals\tThe Brands Queen Elizabeth Swears By\tShop the notebooks.\thttps://assets.msn.com/a.html\t"
    '[{"Label": "Elizabeth II"}]\t[]\n'
    "N2\thealth\tweightloss\t50 Worst Habits\t\thttps://assets.msn.com/b.html\t[]\t[]\n"
    "N3\tnews\tworld\tThe Cost of Trump's Aid\tLt. Ivan Molchanets.\thttps://assets.msn.com/c.html\t[]\t[]\n"
)
BEHAVIORS = (
    "1\tU13740\t11/11/2019 9:05:58 AM\tN1 N2\tN3-1 N2-0\n"
    "2\tU91836\t11/12/2019 6:11:30 PM\t\tN1-0 N2-1\n"
    "3\tU13740\t11/11/2019 8:00:00 AM\tN1 N2\tN1-0 N3-1\n"
)

CLOTHES = (
    "f6a0,d8a1,//img.alicdn.com/imgextra/i1/a.jpg,Summer dress, with dots\n"
    "0c3b,d8a1,http://img.alicdn.com/b.jpg,White shoes\n"
    "77ff,9b2c,//img.alicdn.com/c.jpg,复古手提包\n"
    "1d2e,9b2c,,Hat without a picture\n"
)
OUTFITS = "o1,77ff;0c3b\no2,f6a0\n"
CLICKS = "u1,f6a0;1d2e,o1\nu2,0c3b;77ff;f6a0,o2\nu1,0c3b,o9\n"


class Imported(NamedTuple):
    """The rows of an import's files."""

    items: list[dict]
    interactions: list[dict[str, str]]
    report: dict

    @property
    def ids(self) -> list[str]:
        return [item["item_id"] for item in self.items]

    def count(self, kind: str) -> int:
        return self.report["found"].get(kind, {"count": 0})["count"]


def write_files(folder: Path, **files: str) -> Path:
    """Files by name, of which _ stands for the dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / ".".join(name.rsplit("_", 1))).write_text(text, encoding="utf-8", newline="")
    return folder


def write_pictures(folder: Path, *names: str) -> Path:
    """JPEG files, each of another grey."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", (16, 24), (40 * number % 256,) * 3).save(folder / name, "JPEG")
    return folder


def run_import(kind: str, source: Path, out: Path, *more: object) -> Imported:
    """Runs the command, and reads back what it wrote."""
    assert main(["data", kind, str(source), "--out", str(out), *map(str, more)]) == 0
    return read_import(out)


def read_import(out: Path) -> Imported:
    with (out / "metadata.jsonl").open(encoding="utf-8") as lines:
        items = [json.loads(line) for line in lines]
    interactions = []
    if (out / "interactions.csv").is_file():
        with (out / "interactions.csv").open(encoding="utf-8", newline="") as lines:
            interactions = list(csv.DictReader(lines))
    return Imported(items, interactions, json.loads((out / "report.json").read_text("utf-8")))


def readable_ids(out: Path) -> list[str]:
    """The items that the project reads from an import; what it skips is an error."""

    def fail(place: str, reason: str) -> None:
        raise AssertionError(f"{place}: {reason}")

    return [item.item_id for item in read_items(out, fail)]
