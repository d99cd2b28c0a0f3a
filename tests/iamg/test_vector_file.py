import json
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file

from iamg.vector_file import VectorWriter, holds_rows, normalised, read_probe, read_vectors

PROBE = np.arange(1, 7, dtype=np.float32)


@pytest.fixture
def rows():
    return np.random.default_rng(0).standard_normal((5, 6)).astype(np.float16)


def write(path, rows):
    writer = VectorWriter(path, PROBE)
    writer.write([0, 1], rows[:2])
    writer.write([2, 3, 4], rows[2:])
    writer.finish(5)
    writer.close()


def test_file_is_what_safetensors_reads(tmp_path, rows):
    path = tmp_path / "text.safetensors"
    write(path, rows)
    tensors = load_file(path)
    assert set(tensors) == {"probe", "embeddings"}
    assert np.array_equal(tensors["embeddings"], rows) and tensors["embeddings"].dtype == np.float16
    assert np.array_equal(tensors["probe"], PROBE) and tensors["probe"].dtype == np.float32
    probe, embeddings = read_vectors(path, 6, 5)
    assert np.array_equal(probe, PROBE) and np.array_equal(embeddings, rows)


def test_appending_goes_on_after_the_rows_kept(tmp_path, rows):
    whole, path = tmp_path / "whole", tmp_path / "resumed"
    write(whole, rows)
    writer = VectorWriter(path, PROBE)
    writer.write([0, 1, 2], np.stack([rows[0], rows[1], rows[4]]))  # the third was never committed
    writer.close()
    assert holds_rows(path, 6, 2) and holds_rows(path, 6, 3) and not holds_rows(path, 6, 4)
    assert np.array_equal(read_probe(path, 6), PROBE)
    writer = VectorWriter(path, PROBE, rows_kept=2)
    writer.write([2, 3, 4], rows[2:])
    assert np.array_equal(writer.read(3), rows[3])
    writer.finish(5)
    writer.close()
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(("width", "count"), [(6, 4), (6, 6), (5, 6), (3, 10)])
def test_other_shapes_are_refused(tmp_path, rows, width, count):
    write(tmp_path / "text.safetensors", rows)
    with pytest.raises(ValueError, match=f"text.safetensors does not hold {count} embeddings"):
        read_vectors(tmp_path / "text.safetensors", width, count)


def test_a_header_that_points_elsewhere_is_refused(tmp_path, rows):
    path = tmp_path / "text.safetensors"
    write(path, rows)
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["embeddings"]["data_offsets"] = [0, 60]
    data[8 : 8 + length] = json.dumps(header).encode().ljust(length)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="text.safetensors"):
        read_vectors(path, 6, 5)


def test_rows_get_length_one_and_useless_rows_become_nan():
    vectors = np.array([[3, 4], [0, 0], [np.inf, 1], [np.nan, 1], [1e30, 0]], dtype=np.float32)
    unit = normalised(vectors)
    assert unit.dtype == np.float16
    assert np.allclose(unit[[0, 4]], [[0.6, 0.8], [1, 0]], atol=1e-3)
    assert np.isnan(unit[1:4]).any(axis=1).all()
