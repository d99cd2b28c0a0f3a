import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from iamg_train.jsonl_log import JsonLinesLog, read_log

ROWS = [{"item_id": "a", "text": "é 1"}, {"item_id": "b", "text": "two\nlines"}]


def test_rows_come_back_as_they_were_appended(tmp_path):
    path = tmp_path / "log.jsonl"
    assert list(read_log(path)) == []
    for row in ROWS:
        with JsonLinesLog(path) as log:
            log.append([row])
    assert list(read_log(path)) == ROWS and path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("torn", ['{"item_id": "c", "te', '{"item_id": "c", "text": "thr\u00e9', "[", '"'])
def test_a_line_that_was_not_written_to_its_end_is_cut_away_by_the_next_append(tmp_path, torn):
    path = tmp_path / "log.jsonl"
    whole = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    path.write_bytes(whole + torn.encode()[:-1] if "\u00e9" in torn else whole + torn.encode())
    assert list(read_log(path)) == ROWS
    with JsonLinesLog(path) as log:
        assert path.read_bytes() == whole
        log.append([{"item_id": "d"}])
    assert list(map(json.loads, path.read_text().splitlines())) == [*ROWS, {"item_id": "d"}]


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(ROWS[0]))
    with JsonLinesLog(path) as log:
        log.append([ROWS[1]])
    assert list(read_log(path)) == ROWS


APPEND = """
import sys
from pathlib import Path
from iamg_train.jsonl_log import JsonLinesLog
with JsonLinesLog(Path(sys.argv[1])) as log:
    for number in range(10**9):
        log.append([{"number": number, "text": "x" * 5000}])
"""


def test_a_kill_while_it_grows_loses_no_row_before_it(tmp_path):
    path = tmp_path / "log.jsonl"
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", APPEND, path], cwd=Path(__file__).parents[2])
        before = path.stat().st_size if path.exists() else 0
        while not path.exists() or path.stat().st_size < before + 100_000:
            assert process.poll() is None
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with JsonLinesLog(path):
        runs = "".join(" " if row["number"] == 0 else "." for row in read_log(path)).split()
    numbers = [json.loads(line)["number"] for line in path.read_text().splitlines()]
    assert numbers == [number for run in runs for number in range(len(run) + 1)] and len(runs) == 3
