"""A run's numbers: log.csv and held_out.csv in its folder, and the trackers that the user asked for."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from accelerate import Accelerator

from iamg_train.held_out import HeldOut
from iamg_train.whole_files import write_whole

LOG, HELD_OUT = "log.csv", "held_out.csv"
LOG_COLUMNS = ("step", "loss", "learning_rate", "samples_per_second")
HELD_OUT_COLUMNS = ("step", *HeldOut._fields)


class RunLog:
    """Appends rows as they come; what a resumed run will compute again is cut away first."""

    def __init__(self, run: Path, accelerator: Accelerator, from_step: int):
        self._run, self._accelerator = run, accelerator
        if accelerator.is_main_process:
            for name, columns in ((LOG, LOG_COLUMNS), (HELD_OUT, HELD_OUT_COLUMNS)):
                _keep_rows(run / name, columns, from_step)

    def losses(self, rows: Iterable[tuple[int, float, float, float]]) -> None:
        """Rows of LOG_COLUMNS."""
        self._add(LOG, LOG_COLUMNS, rows)

    def held_out(self, step: int, losses: HeldOut) -> None:
        self._add(HELD_OUT, HELD_OUT_COLUMNS, [(step, *losses)])

    def _add(self, name: str, columns: tuple[str, ...], rows: Iterable[tuple]) -> None:
        if not self._accelerator.is_main_process:
            return
        with (self._run / name).open("a", newline="", encoding="utf-8") as file:
            for row in rows:
                csv.writer(file).writerow(row)
                self._accelerator.log(dict(zip(columns[1:], row[1:], strict=True)), step=row[0])


def _keep_rows(path: Path, columns: tuple[str, ...], last_step: int) -> None:
    """Leave the header and the rows up to `last_step` in the file."""
    rows = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if len(row) == len(columns) and row[0].isdecimal()]
    kept = io.StringIO()
    writer = csv.writer(kept)
    writer.writerow(columns)
    writer.writerows(row for row in rows if int(row[0]) <= last_step)
    write_whole(path, kept.getvalue().encode())
