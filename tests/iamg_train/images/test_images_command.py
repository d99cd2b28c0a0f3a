"""`iamg-train data images`, as people run it and as machines end it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from picture_server import PictureServer, picture_bytes

from iamg.pictures import open_picture
from iamg_train.cli import main

ROOT = Path(__file__).parents[3]
ITEMS, GONE = 1000, range(0, 1000, 50)


def write_catalogue(folder, url, count):
    rows = [{"item_id": f"i{n}", "file_name": f"images/{n}.jpg", "image_url": f"{url}/{n}"} for n in range(count)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def answer(path, _):
    number = int(path[1:])
    return (404, {}, b"") if number in GONE else (200, {}, picture_bytes(colour=(number % 256, number // 256, 90)))


def start(folder):
    command = [sys.executable, "-m", "iamg_train", "data", "images", str(folder), "--allow-private", "--rate", "100000"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.slow
def test_after_kills_the_rerun_asks_only_for_what_is_missing(tmp_path):
    """kill -9 while 1,000 pictures come in, twice; the third run ends it."""
    with PictureServer(answer) as server:
        write_catalogue(tmp_path, server.url, ITEMS)
        for stop_at in (200, 500):
            process = start(tmp_path)
            deadline = time.monotonic() + 240
            while len(list(tmp_path.glob("images/*.jpg"))) < stop_at:
                assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0].decode()
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            there = {path.name for path in tmp_path.glob("images/*.jpg")}
            assert stop_at <= len(there) < ITEMS - len(GONE)
            for name in there:
                open_picture(tmp_path / "images" / name)
            known = [json.loads(line)["file_name"] for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
            asked_before = server.asked.copy()
        told = start(tmp_path).communicate(timeout=240)[0].decode()
        asked = server.asked - asked_before
    missing = {f"/{n}" for n in range(ITEMS) if f"{n}.jpg" not in there and f"images/{n}.jpg" not in known}
    assert asked.keys() == missing and set(asked.values()) == {1}
    assert {int(path.stem) for path in tmp_path.glob("images/*")} == set(range(ITEMS)) - set(GONE)
    failed = [json.loads(line)["file_name"] for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert sorted(failed) == sorted(f"images/{n}.jpg" for n in GONE)
    assert "HTTP 404" in told and "20" in told


def test_the_report_counts_reasons_and_the_status_says_whether_anything_is_there(tmp_path, capsys):
    with PictureServer(lambda path, times: (200, {}, picture_bytes()) if path == "/1" else (404, {}, b"")) as server:
        write_catalogue(tmp_path, server.url, 3)
        assert main(["data", "images", str(tmp_path), "--rate", "1000"]) == 1
        assert "its address is not public" in capsys.readouterr().out and not server.asked
        again = ["data", "images", str(tmp_path), "--rate", "1000", "--allow-private"]
        assert main(again) == 1 and not server.asked
        assert main([*again, "--retry-failed"]) == 0
    told = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")] for line in told.splitlines() if "│" in line]
    assert ["downloaded now", "1"] in rows and ["HTTP 404", "2", "leaves them out", "images/0.jpg"] in rows


def test_a_name_that_speaks_to_the_terminal_is_shown_and_not_obeyed(tmp_path, capsys):
    bad = "\x1b[2J[/red]"
    rows = [
        {"file_name": f"{bad}.jpg", "image_url": "http://127.0.0.1/"},
        {"file_name": f"{bad}.exe", "image_url": "x"},
    ]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["data", "images", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "\x1b[2J" not in told and told.count("�[2J[/red]") == 2


@pytest.mark.parametrize("flag", [("--rate", "0"), ("--max-bytes", "-1"), ("--per-host", "none"), ("--rate", "nan")])
def test_a_flag_that_means_nothing_is_refused(tmp_path, flag):
    with pytest.raises(SystemExit) as ended:
        main(["data", "images", str(tmp_path), *flag])
    assert ended.value.code == 2


def test_a_folder_without_metadata_is_named(tmp_path, capsys):
    assert main(["data", "images", str(tmp_path)]) == 2
    assert f"{tmp_path} has none of metadata.jsonl" in capsys.readouterr().err
