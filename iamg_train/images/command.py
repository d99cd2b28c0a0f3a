"""`iamg-train data images`."""

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence

from rich.table import Column, Table
from rich.text import Text

from iamg_train.console import console, plain, progress_bar, tell_problems
from iamg_train.images.addresses import is_public
from iamg_train.images.catalogue import named_pictures
from iamg_train.images.download import FAILURES, Failure, download
from iamg_train.images.manners import Manners


def run(arguments: Namespace) -> int:
    """1 where not one of the pictures is there."""
    problems: list[tuple[str, str]] = []
    pictures = list(
        named_pictures(arguments.items, arguments.url_column, lambda place, reason: problems.append((place, reason)))
    )
    missing = sum(not picture.path.is_file() for picture in pictures)
    with progress_bar() as bar:
        task = bar.add_task("downloading pictures", total=missing)
        failures = download(
            arguments.items,
            pictures,
            Manners(
                connections=arguments.connections,
                per_host=arguments.per_host,
                rate=arguments.rate,
                retries=arguments.retries,
                timeout=arguments.timeout,
            ),
            arguments.max_bytes,
            retry_failed=arguments.retry_failed,
            allowed=(lambda address: True) if arguments.allow_private else is_public,
            on_done=lambda: bar.advance(task),
        )
    table = Table("pictures", str(len(pictures)), show_edge=False)
    table.add_row("were there already", str(len(pictures) - missing))
    table.add_row("downloaded now", str(missing - len(failures)))
    table.add_row("not there", str(len(failures)))
    console.print(table)
    tell_problems("rows name no picture that can be downloaded", problems)
    if failures:
        _tell(failures)
        console.print(f"all of them, with their addresses: {arguments.items / FAILURES}", markup=False, soft_wrap=True)
    return int(len(failures) == len(pictures))


def _tell(failures: Sequence[Failure]) -> None:
    reason_column, example_column = Column("why not", no_wrap=True), Column("for example", no_wrap=True)
    table = Table(reason_column, "pictures", "the next run", example_column, show_edge=False)
    example = {(failure.reason, failure.permanent): failure for failure in reversed(failures)}
    counts = Counter((failure.reason, failure.permanent) for failure in failures)
    for (reason, permanent), count in counts.most_common():
        first = example[reason, permanent]
        table.add_row(
            reason, str(count), "leaves them out" if permanent else "asks again", Text(plain(first.file_name))
        )
    console.print()
    console.print(table)
