"""Downloading what a catalogue names and is not there; what is done, or cannot be done, is not done again."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from iamg.pictures import resolve_inside
from iamg_train.images.addresses import is_public
from iamg_train.images.catalogue import NamedPicture
from iamg_train.images.fetching import Fetcher, NotFetched, host_of, open_fetcher
from iamg_train.images.keeping import keep_picture
from iamg_train.images.manners import Manners
from iamg_train.jsonl_log import JsonLinesLog, json_lines, read_log
from iamg_train.whole_files import write_whole

FAILURES = "failures.jsonl"


@dataclass(frozen=True)
class Failure:
    """Why a picture is not there: a row of failures.jsonl."""

    file_name: str
    address: str
    reason: str
    detail: str
    permanent: bool


def download(
    folder: Path,
    pictures: Collection[NamedPicture],
    manners: Manners,
    max_bytes: int,
    retry_failed: bool = False,
    allowed: Callable[[str], bool] = is_public,
    on_done: Callable[[], None] = lambda: None,
) -> list[Failure]:
    """Downloads the pictures that are not there, and gives those that still are not, as in failures.jsonl.

    What failed for good in an earlier run is not asked for again unless `retry_failed`. Connections are made only
    to IP addresses that are `allowed`. `on_done` is called after each picture that is not there at the start. A call
    after a kill does what is missing. OSError when the disk is full; what is there stays.
    """
    logged = resolve_inside(folder, FAILURES)
    missing = {(one.file_name, one.address): one for one in pictures if not one.path.is_file()}
    failures = {key: failure for key, failure in _failures(logged) if key in missing}
    known = {key for key, failure in failures.items() if failure.permanent and not retry_failed}
    for _ in known:
        on_done()
    with JsonLinesLog(logged) as log:

        def note(picture: NamedPicture, failure: Failure | None) -> None:
            key = (picture.file_name, picture.address)
            failures.pop(key, None)
            if failure:
                failures[key] = failure
                log.append([vars(failure)])
            on_done()

        asked = [picture for key, picture in missing.items() if key not in known]
        try:
            asyncio.run(_download(asked, manners, max_bytes, allowed, note))
        except ExceptionGroup as group:  # of the workers; the first stopped the others
            raise group.exceptions[0] from group
    in_order = [failures[key] for key in missing if key in failures]
    _write(logged, in_order)
    return in_order


async def _download(
    pictures: Sequence[NamedPicture],
    manners: Manners,
    max_bytes: int,
    allowed: Callable[[str], bool],
    note: Callable[[NamedPicture, Failure | None], None],
) -> None:
    """Each host has workers of its own, so that a slow one holds up nobody else's pictures."""

    def host(picture: NamedPicture) -> str:
        return host_of(picture.address)

    with ThreadPoolExecutor(1) as decoder:
        async with open_fetcher(manners, max_bytes, allowed) as fetcher, asyncio.TaskGroup() as workers:
            for _, group in groupby(sorted(pictures, key=host), host):
                of_host = list(group)
                shared = iter(of_host)
                for _ in range(min(manners.per_host, len(of_host))):
                    workers.create_task(_work(shared, fetcher, decoder, note))


async def _work(
    pictures: Iterator[NamedPicture],
    fetcher: Fetcher,
    decoder: ThreadPoolExecutor,
    note: Callable[[NamedPicture, Failure | None], None],
) -> None:
    loop = asyncio.get_running_loop()
    for picture in pictures:
        beside = picture.path.with_name(picture.path.name + ".part")
        failure = None
        try:
            beside.parent.mkdir(parents=True, exist_ok=True)
            beside.unlink(missing_ok=True)  # a link of that name would be written through
            await fetcher.fetch(picture.address, beside)
            await loop.run_in_executor(decoder, keep_picture, beside, picture.path)
        except NotFetched as error:
            failure = Failure(picture.file_name, picture.address, error.reason, error.detail, error.permanent)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            failure = Failure(picture.file_name, picture.address, "its file's place is taken", str(error), True)
        finally:
            with suppress(NotADirectoryError):
                beside.unlink(missing_ok=True)
        note(picture, failure)


def _failures(path: Path) -> Iterator[tuple[tuple[str, str], Failure]]:
    """The rows of the file by file name and address, those that are whole."""
    for row in read_log(path):
        try:
            failure = Failure(**row)
        except TypeError:
            continue
        yield (str(failure.file_name), str(failure.address)), failure


def _write(path: Path, failures: Sequence[Failure]) -> None:
    if failures:
        write_whole(path, json_lines(map(vars, failures)))
    else:
        path.unlink(missing_ok=True)
