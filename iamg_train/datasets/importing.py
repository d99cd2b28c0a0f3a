"""`iamg-train data movielens | mind | pog | imagefolder`: from a dataset's files to a new folder, whole or not at all."""

import json
import os
import shutil
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import xxhash
from rich.progress import Progress
from rich.table import Table

from iamg_train.console import console, progress_bar
from iamg_train.datasets.catalogue import INTERACTIONS, Catalogue, choose_users, write_interactions, write_items
from iamg_train.datasets.dataset import Dataset
from iamg_train.datasets.findings import Findings, tell_findings
from iamg_train.whole_files import write_whole

REPORT = "report.json"
UNFINISHED = "unfinished"  # marks a folder as a draft of this command
ARGUMENTS = ("dataset", "source", "pictures", "pictures_by", "image_urls", "interactions", "max_users")
MADE_FROM = "made_from"
STRIDE = 4096  # interactions between two looks of the progress bar

T = TypeVar("T")


def import_dataset(dataset: Dataset, arguments: Namespace) -> int:
    """Writes arguments.out, or leaves it as it is where these arguments and files made it; then tells its report.

    Raises ValueError where something else has its place, and where no item has a picture.
    """
    out = arguments.out.resolve()
    given = {name: value for name in ARGUMENTS if (value := getattr(arguments, name, None)) is not None}
    given = {name: value.resolve() if isinstance(value, Path) else value for name, value in given.items()}
    paths = [value for value in given.values() if isinstance(value, Path)]
    for path in paths:
        if out.is_relative_to(path) or path.is_relative_to(out):
            raise ValueError(f"--out {out} and {path} lie in each other; give --out a folder elsewhere")
    made_from = {name: str(value) for name, value in given.items()} | {"files": _fingerprint(paths)}
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        report = _report_of(out, made_from)
        console.print(f"{out} is there already, made from these files", markup=False, highlight=False, soft_wrap=True)
    else:
        with _draft(out) as folder:
            report = {MADE_FROM: made_from, **_write(dataset, folder, arguments)}
            write_whole(folder / REPORT, json.dumps(report, indent=2, ensure_ascii=False).encode())
        console.print(f"wrote {out}", markup=False, highlight=False, soft_wrap=True)
    _tell(report)
    return 0


def _write(dataset: Dataset, folder: Path, arguments: Namespace) -> dict:
    findings = Findings()
    with progress_bar() as bar:
        users = wanted = None
        if arguments.max_users is not None:
            users = choose_users(_counted(dataset.users(Findings()), bar, "choosing users"), arguments.max_users)
            events = _counted(dataset.events(users, Findings()), bar, "choosing items")
            wanted = {event.item_id.strip() for event in events}
        items = _counted(dataset.items(findings), bar, "items", stride=1)
        catalogue = write_items(folder, dataset, items, wanted, findings)
        if not catalogue.ids:
            raise ValueError(
                f"no item of {arguments.source} can be used: {findings}; give pictures named after the items, "
                "or a table of their addresses"
            )
        events = _counted(dataset.events(users, findings), bar, "interactions")
        write_interactions(folder / INTERACTIONS, events, catalogue, findings)
    if not catalogue.interactions:
        (folder / INTERACTIONS).unlink()
    return _numbers(catalogue) | {"found": findings.as_json()}


def _numbers(catalogue: Catalogue) -> dict[str, int]:
    numbers = asdict(catalogue)
    return {"items": len(numbers.pop("ids")), **numbers}


def _report_of(out: Path, made_from: dict[str, str]) -> dict:
    """The report of the folder that is there already; ValueError where it was not made from the same."""
    try:
        report = json.loads((out / REPORT).read_bytes())
        before = dict(report[MADE_FROM])
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{out} exists and was not written by this command; give another --out") from None
    changed = [name for name in made_from | before if made_from.get(name) != before.get(name)]
    if changed:
        shown = "; ".join(f"{name} was {before.get(name)}, is {made_from.get(name)}" for name in changed)
        raise ValueError(f"{out} was made from something else ({shown}); give another --out, or remove that folder")
    return report


@contextmanager
def _draft(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its name if all goes well, and goes away if not."""
    folder = out.with_name(f"{out.name}.importing")
    if folder.exists() and any(folder.iterdir()) and not (folder / UNFINISHED).is_file():
        raise ValueError(f"{folder} is in the way and is no unfinished import; move it elsewhere")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / UNFINISHED).touch()
    try:
        yield folder
        if out.is_dir():
            out.rmdir()  # it is empty
        (folder / UNFINISHED).unlink()
        os.rename(folder, out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _fingerprint(paths: Iterable[Path]) -> str:
    """Changes with the name, size or time of any file in these folders and files."""
    digest = xxhash.xxh3_128()
    for path in paths:
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if not file.is_dir():
                status = file.lstat()
                name = file.relative_to(path).as_posix()
                digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _counted(things: Iterable[T], bar: Progress, title: str, stride: int = STRIDE) -> Iterator[T]:
    task = bar.add_task(title, total=None)
    number = 0
    for number, thing in enumerate(things, 1):
        yield thing
        if number % stride == 0:
            bar.update(task, completed=number)
    bar.update(task, completed=number, total=number)


def _tell(report: dict) -> None:
    table = Table("items", f"{report['items']:,}", show_edge=False)
    table.add_row("with a picture", f"{report['pictures']:,}")
    table.add_row("to be downloaded", f"{report['to_download']:,}")
    table.add_row("users", f"{report['users']:,}")
    table.add_row("interactions", f"{report['interactions']:,}")
    console.print(table)
    tell_findings(report["found"])
    if report["to_download"]:
        console.print("next: iamg-train data images, for the pictures that are still at their addresses")
