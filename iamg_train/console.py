"""What the commands print with. Imports nothing heavy."""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SHOWN_PROBLEMS = 10
CONTROL = dict.fromkeys((*range(32), *range(127, 160)), "�")  # a terminal would do what they say

console = Console()


def progress_bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def plain(text: str) -> str:
    """A stranger's text as a terminal may be given it: one line, without control characters."""
    return text.translate(CONTROL)


def tell_problems(what: str, problems: Sequence[tuple[str, str]]) -> None:
    """List the first (name, reason) of what was skipped, missing ...; nothing when there are none."""
    if problems:
        console.print(f"[yellow]{len(problems)} {what}:[/]")
    for name, reason in problems[:SHOWN_PROBLEMS]:
        console.print(f"  {plain(name)}: {plain(reason)}", markup=False)
    if len(problems) > SHOWN_PROBLEMS:
        console.print(f"  ... and {len(problems) - SHOWN_PROBLEMS} more")
