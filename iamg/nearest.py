"""Cosine top-K over a pool's embeddings (Eq 7-9): a faiss index that is exact, or IVF for large pools."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

EXACT_LIMIT = 50_000  # more rows than this get an IVF index
RECALL_GOAL = 0.995  # of the 5 nearest, on rows of the pool that the IVF index was not trained on
FEWEST_PROBES = 8  # queries are less typical of the pool than the rows that recall is measured on
QUERIES = 256  # rows that the recall is measured on
CHUNK = 16_384  # rows read at a time while an index is built
ROUNDING = 2e-6  # faiss sums in float32, in another order than we do

_FOUR_CC = {"exact": b"IxSQ", "ivf": b"IwSq"}


def build_index(path: Path, vectors: np.ndarray, exact_limit: int = EXACT_LIMIT) -> dict[str, object]:
    """Writes the index of float16 rows (n, width) and says what it is, for the pool's manifest.

    Exact: every row as it is stored. IVF: the same rows in lists, of which a search probes as many as reach
    RECALL_GOAL, measured here against exact search. Memory: one copy of the rows as float16.
    """
    import faiss

    count, width = vectors.shape
    kind = "exact" if count <= exact_limit else "ivf"
    half = faiss.ScalarQuantizer.QT_fp16
    if kind == "exact":
        description = {"kind": kind}
        index = faiss.IndexScalarQuantizer(width, half, faiss.METRIC_INNER_PRODUCT)
    else:
        lists = max(1, min(int(4 * count**0.5), count // 64))  # k-means wants 39 rows a list, or more
        coarse = faiss.IndexFlatIP(width)
        index = faiss.IndexIVFScalarQuantizer(coarse, width, lists, half, faiss.METRIC_INNER_PRODUCT, False)
        held_out, training = np.split(np.random.default_rng(0).permutation(count), [min(QUERIES, count // 4)])
        training = np.sort(training[: 40 * lists])  # in the file's order: it is read from the disk
        index.train(vectors[training].astype(np.float32))
    for start in range(0, count, CHUNK):
        index.add(vectors[start : start + CHUNK].astype(np.float32))
    if kind == "ivf":
        probes, recall = _probes_for_recall(index, vectors, held_out)
        description = {"kind": kind, "lists": lists, "probes": probes, "recall_at_5": round(recall, 4)}
    faiss.write_index(index, str(path))
    return description


def cosines(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Cosines of unit rows (n, width) with a unit vector (width,); equal rows get equal cosines, unlike in BLAS."""
    return np.einsum("ij,j->i", rows.astype(np.float64), query.astype(np.float64))


class NearestRows:
    """Search over the memory-mapped rows of a pool."""

    def __init__(self, path: Path, vectors: np.ndarray, description: dict[str, object]):
        """Maps the index file; ValueError when it is not the index of `vectors` that is described."""
        import faiss

        self._vectors = vectors
        self._lists = description.get("lists", 1)
        self._probes = description.get("probes", 1)
        count, width = vectors.shape
        with path.open("rb") as file:
            start = file.read(16)
        if start != _FOUR_CC[description["kind"]] + struct.pack("<iq", width, count):
            raise ValueError(f"{path.name} is no {description['kind']} index of {count} rows of width {width}")
        try:
            self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except (RuntimeError, MemoryError) as error:  # sizes in a damaged file ask for any memory
            raise ValueError(f"{path.name} is no readable index") from error
        if not self._index.is_trained or self._index.code_size != 2 * width or self._stored(faiss) != count:
            raise ValueError(f"{path.name} does not hold {count} rows of width {width}")

    def nearest(
        self, query: np.ndarray, k: int, keep: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest rows that `keep(rows) -> mask` lets pass, and their cosines, by (-cosine, row).

        Fewer than k when no more pass. `query` (width,) has length 1. Candidates come from faiss, cosines
        from the stored rows. Fetches more until what was not fetched cannot be nearer than the k-th.
        """
        fetch, probes = 2 * k + 8, self._probes
        while True:
            rows = self._candidates(query, fetch, probes)
            similarities = cosines(self._vectors[rows], query)
            order = np.lexsort((rows, -similarities))
            rows, similarities = rows[order], similarities[order]
            passed = keep(rows)
            rows_found, nearest = rows[passed][:k], similarities[passed][:k]
            whole_pool = fetch >= len(self._vectors) and probes >= self._lists
            if whole_pool or (len(rows_found) == k and nearest[-1] > similarities[-1] + ROUNDING):
                return rows_found, nearest
            fetch, probes = 2 * fetch, 2 * probes

    def _candidates(self, query: np.ndarray, fetch: int, probes: int) -> np.ndarray:
        import faiss

        parameters = faiss.SearchParametersIVF(nprobe=min(probes, self._lists)) if self._lists > 1 else None
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # one query has nothing to share, and on a busy machine the threads wait
        try:
            _, rows = self._index.search(query[None], min(fetch, len(self._vectors)), params=parameters)
        finally:
            faiss.omp_set_num_threads(threads)
        rows = rows[0]  # -1 where the probed lists hold fewer rows
        return rows[(rows >= 0) & (rows < len(self._vectors))]

    def _stored(self, faiss) -> int:
        if self._lists == 1 and isinstance(self._index, faiss.IndexScalarQuantizer):
            return self._index.codes.size() // self._index.code_size
        lists = self._index.invlists
        return sum(lists.list_size(number) for number in range(lists.nlist))


def _probes_for_recall(index, vectors: np.ndarray, held_out: np.ndarray) -> tuple[int, float]:
    """Fewest lists, doubling from FEWEST_PROBES, that reach RECALL_GOAL among each held-out row's 5 nearest others."""
    queries = vectors[held_out].astype(np.float32)
    fifth_best = _fifth_best(vectors, queries)
    probes = FEWEST_PROBES
    while True:
        index.nprobe = min(probes, index.nlist)
        similarities, _ = index.search(queries, 6)
        others = similarities[:, 1:]  # the row itself is the nearest
        recall = float((others >= fifth_best[:, None] - ROUNDING).mean())
        if recall >= RECALL_GOAL or probes >= index.nlist:
            return index.nprobe, recall
        probes *= 2


def _fifth_best(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Cosine of the fifth nearest other row of each query, by brute force in chunks."""
    best = np.full((len(queries), 6), -np.inf, np.float32)
    for start in range(0, len(vectors), CHUNK):
        similarities = queries @ vectors[start : start + CHUNK].astype(np.float32).T
        best = np.partition(np.concatenate([best, similarities], axis=1), -6, axis=1)[:, -6:]
    return best.min(axis=1)
