import numpy as np
import pytest

from iamg.nearest import NearestRows, build_index
from iamg.vector_file import normalised


def clustered(count, width, clusters, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, width))
    return normalised(centres[rng.integers(0, clusters, count)] + 0.5 * rng.standard_normal((count, width)))


def unit_queries(count, width):
    queries = np.random.default_rng(1).standard_normal((count, width))
    return (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)


def brute_force(vectors, query, k, kept):
    similarities = [sum(a * b for a, b in zip(row.tolist(), query.tolist(), strict=True)) for row in vectors]
    order = sorted((row for row in range(len(vectors)) if kept[row]), key=lambda row: (-similarities[row], row))
    return order[:k], [similarities[row] for row in order[:k]]


def everything(rows):
    return np.ones(len(rows), dtype=bool)


@pytest.fixture
def build(tmp_path):
    def opened(vectors, **options):
        description = build_index(tmp_path / "text.faiss", vectors, **options)
        return NearestRows(tmp_path / "text.faiss", vectors, description), description

    return opened


def test_exact_search_agrees_with_brute_force(build):
    vectors = clustered(300, 12, 20)
    vectors[[7, 150, 299]] = vectors[42]  # ties at four rows
    index, description = build(vectors)
    assert description == {"kind": "exact"}
    kept = np.random.default_rng(2).random(300) < 0.3
    kept[[7, 42, 150, 299]] = True
    for query in (*unit_queries(10, 12), vectors[42].astype(np.float32)):
        for keep in (np.ones(300, dtype=bool), kept):
            rows, cosines = index.nearest(query, 6, lambda rows, keep=keep: keep[rows])
            expected, similarities = brute_force(vectors, query, 6, keep)
            assert rows.tolist() == expected
            assert cosines == pytest.approx(similarities, abs=1e-9)


def test_ties_across_the_cut_go_to_the_first_rows(build):
    vectors = np.repeat(clustered(4, 8, 4), 50, axis=0)  # 50 equal rows each
    index, _ = build(vectors)
    for first in (0, 50, 100, 150):
        rows, _ = index.nearest(vectors[first].astype(np.float32), 3, everything)
        assert rows.tolist() == [first, first + 1, first + 2]


@pytest.mark.parametrize("exact_limit", [1000, 100])
def test_all_that_pass_are_found_even_when_nearly_all_are_left_out(build, exact_limit):
    vectors = clustered(400, 16, 10)
    index, _ = build(vectors, exact_limit=exact_limit)
    kept = np.zeros(400, dtype=bool)
    kept[[3, 200, 399]] = True
    for query in unit_queries(5, 16):
        for k in (2, 3, 5):
            rows, _ = index.nearest(query, k, lambda rows: kept[rows])
            assert rows.tolist() == brute_force(vectors, query, k, kept)[0]


def test_large_pools_get_lists_and_the_probes_that_reach_the_recall(build):
    vectors = clustered(4000, 16, 50)
    index, description = build(vectors, exact_limit=1000)
    assert description["kind"] == "ivf"
    assert 1 < description["probes"] < description["lists"]
    assert description["recall_at_5"] >= 0.995
    held_out = clustered(100, 16, 50, seed=0)[:100].astype(np.float32)
    exact = vectors.astype(np.float64) @ held_out.T
    hits = 0
    for number, query in enumerate(held_out):
        query /= np.linalg.norm(query)
        rows, cosines = index.nearest(query, 5, everything)
        assert cosines == pytest.approx(vectors[rows].astype(np.float64) @ query, abs=1e-9)
        hits += len(set(rows) & set(np.argsort(-exact[:, number])[:5]))
    assert hits / 500 >= 0.99


@pytest.mark.parametrize("exact_limit", [1000, 10])
def test_an_index_of_other_rows_is_refused(tmp_path, exact_limit):
    path = tmp_path / "text.faiss"
    vectors = clustered(200, 8, 5)
    description = build_index(path, vectors, exact_limit)
    others = [
        (vectors[:100], description),
        (np.zeros((200, 9), np.float16), description),
        (vectors, {"kind": "ivf" if description["kind"] == "exact" else "exact", "lists": 2, "probes": 1}),
    ]
    for rows, said in others:
        with pytest.raises(ValueError, match="text.faiss"):
            NearestRows(path, rows, said)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="text.faiss"):
        NearestRows(path, vectors, description)
