"""Rows come back as they were put, whatever happened to the process that put them."""

import multiprocessing
import os
import resource
import signal
import time
import warnings
from collections import namedtuple

import pytest
import torch

from iamg_train.row_cache import KEY_BYTES, RowCache

SHAPE = (3, 5)
fork = multiprocessing.get_context("fork")


def keys(*numbers: int) -> list[str]:
    return [f"{number:032x}" for number in numbers]


def rows(*numbers: int, dtype=torch.float32) -> torch.Tensor:
    """The row of key n holds n, n + 1, ..."""
    return (torch.tensor(numbers)[:, None] + torch.arange(15)).view(len(numbers), *SHAPE).to(dtype)


def holds(cache: RowCache, *numbers: int) -> bool:
    found = zip(keys(*numbers), rows(*numbers, dtype=cache.dtype), strict=True)
    return len(cache) == len(numbers) and all(torch.equal(cache[key], row) for key, row in found)


def open_cache(folder, dtype=torch.float32) -> RowCache:
    return RowCache.open(folder, SHAPE, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_come_back_as_they_were_put_also_after_opening_again(tmp_path, dtype):
    with open_cache(tmp_path / "c", dtype) as cache:
        assert len(cache) == 0 and keys(1)[0] not in cache
        cache.append(keys(1, 2), rows(1, 2))
        assert holds(cache, 1, 2)
        cache.append(keys(7), rows(7).mT.contiguous().mT)  # strided
        assert holds(cache, 1, 2, 7) and keys(7)[0] in cache
    assert holds(open_cache(tmp_path / "c", dtype), 1, 2, 7)
    assert (tmp_path / "c" / "rows.bin").stat().st_size == 3 * 15 * dtype.itemsize


def test_a_row_is_a_copy_that_can_be_written_to(tmp_path):
    cache = open_cache(tmp_path)
    cache.append(keys(1), rows(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache[keys(1)[0]].zero_()
    assert holds(cache, 1)


def test_a_key_that_is_there_keeps_its_row(tmp_path):
    cache = open_cache(tmp_path)
    cache.append(keys(1, 2, 2), torch.cat([rows(1, 2), rows(9)])[[0, 1, 1]])
    cache.append(keys(1, 3), rows(8, 3))
    assert holds(open_cache(tmp_path), 1, 2, 3)


def test_rows_of_another_shape_and_unknown_keys_are_refused(tmp_path):
    cache = open_cache(tmp_path)
    with pytest.raises(ValueError, match=r"\(1, 5, 3\), not \(1, 3, 5\)"):
        cache.append(keys(1), torch.zeros(1, 5, 3))
    with pytest.raises(KeyError):
        cache[keys(1)[0]]


def add(path, content: bytes):
    path.write_bytes(path.read_bytes() + content)


def cut(path, lost: int):
    os.truncate(path, path.stat().st_size - lost)


@pytest.mark.parametrize(
    ("damage", "whole"),
    [
        (lambda folder: add(folder / "rows.bin", b"\1" * 77), 3),  # killed before the keys were written
        (lambda folder: add(folder / "keys.txt", b"0123"), 3),
        (lambda folder: cut(folder / "keys.txt", 1), 2),
        (lambda folder: add(folder / "keys.txt", b"\0" * 2 * KEY_BYTES), 3),  # a file system after a power cut
        (lambda folder: (add(folder / "rows.bin", b"\1" * 60), add(folder / "keys.txt", b"%032x\n" % 3)), 3),
        (lambda folder: cut(folder / "rows.bin", 61), 1),
        (lambda folder: cut(folder / "rows.bin", 180), 0),
        (lambda folder: (folder / "keys.txt").unlink(), 0),
        (lambda folder: (folder / "rows.bin").unlink(), 0),
    ],
)
def test_a_torn_tail_is_left_out_and_cut_by_the_next_append(tmp_path, damage, whole):
    open_cache(tmp_path).append(keys(1, 2, 3), rows(1, 2, 3))
    damage(tmp_path)
    kept = range(1, whole + 1)
    cache = open_cache(tmp_path)
    assert holds(cache, *kept)
    cache.append(keys(50, 51), rows(50, 51))
    assert holds(cache, *kept, 50, 51) and holds(open_cache(tmp_path), *kept, 50, 51)
    assert (tmp_path / "rows.bin").stat().st_size == (whole + 2) * 60
    assert (tmp_path / "keys.txt").stat().st_size == (whole + 2) * KEY_BYTES


def append_forever(folder, start: int):
    cache = open_cache(folder)
    for number in range(start, start + 100_000, 4):
        batch = range(number, number + 4)
        cache.append(keys(*batch), rows(*batch))


def test_a_kill_at_any_moment_leaves_a_valid_cache(tmp_path):
    found = 0
    for attempt in range(8):
        process = fork.Process(target=append_forever, args=(tmp_path, attempt * 1_000_000))
        process.start()
        time.sleep(0.02 + 0.013 * attempt)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        cache = open_cache(tmp_path)
        numbers = [int(key, 16) for key in cache._places]
        assert holds(cache, *numbers) and len(numbers) >= found
        found = len(numbers)
    assert found > 8


def test_processes_that_append_the_same_keys_take_turns(tmp_path):
    processes = [fork.Process(target=append_range, args=(tmp_path, range(n, 60))) for n in (0, 0, 20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    cache = open_cache(tmp_path)
    numbers = [int(key, 16) for key in cache._places]
    assert sorted(numbers) == list(range(60)) and holds(cache, *numbers)


def append_range(folder, numbers):
    cache = open_cache(folder)
    for number in numbers:
        cache.append(keys(number), rows(number))


def test_a_reader_leaves_a_writers_unfinished_row_alone(tmp_path):
    open_cache(tmp_path).append(keys(1), rows(1))
    add(tmp_path / "rows.bin", b"\1" * 60)
    assert holds(open_cache(tmp_path), 1)
    assert (tmp_path / "rows.bin").stat().st_size == 120


@pytest.mark.parametrize("shape", [(64,), (4,)])  # rows.bin grows past the limit first, then keys.txt does
def test_a_full_disk_loses_nothing_that_was_cached(tmp_path, shape):
    cache = RowCache.open(tmp_path, shape, torch.float16)
    first = torch.arange(2.0 * shape[0]).view(2, -1).half()
    cache.append(keys(1, 2), first)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))  # bytes a file
    try:
        with pytest.raises(OSError, match=r"10 rows \(0.0 MB\).*File too large.*2 rows that are there are kept"):
            cache.append(keys(*range(3, 13)), torch.ones(10, *shape))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "rows.bin").stat().st_size == 2 * cache.row_bytes
    assert (tmp_path / "keys.txt").stat().st_size == 2 * KEY_BYTES
    for reader in (cache, RowCache.open(tmp_path, shape, torch.float16)):
        assert len(reader) == 2 and torch.equal(reader[keys(2)[0]], first[1])
    cache.append(keys(3), torch.ones(1, *shape))
    assert len(RowCache.open(tmp_path, shape, torch.float16)) == 3


def test_too_little_room_is_told_before_anything_is_computed(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("iamg_train.row_cache.disk_usage", lambda folder: usage(6_000_000))
    cache = open_cache(tmp_path)
    cache.check_room(100_000)  # 60 bytes each
    with pytest.raises(OSError, match=r"100001 rows \(6.0 MB\) cannot be cached: No space left"):
        cache.check_room(100_001)
