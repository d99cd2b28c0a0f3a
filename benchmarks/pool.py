"""Times opening and searching a pool, and prints a Markdown table. Linux (it reads /proc).

The pool of 7,253 items has the real widths and synthetic clustered embeddings, and no thumbnails. Queries leave
out the objective item and its near-duplicates (D11). With --million: 1,000,000 x 768 embeddings behind an IVF
index; its recall is counted against brute force, with queries that are not in the pool.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from iamg.item_table import ItemRecord, PoolItem
from iamg.nearest import NearestRows, build_index
from iamg.pool import EmbeddingPool, LeaveOut
from iamg.pool_draft import PoolDraft, Probes
from iamg.tagging import ItemTags
from iamg.vector_file import VectorWriter, normalised, read_vectors

ITEMS, TEXT_WIDTH, IMAGE_WIDTH = 7253, 768, 1024
K = 5


class Clusters:
    """Unit vectors around random centres: two of one cluster have cosine 0.67, others about 0."""

    def __init__(self, number: int, width: int):
        self._random = np.random.default_rng(0)
        self._centres = self._random.standard_normal((number, width), dtype=np.float32)

    def draw(self, count: int) -> np.ndarray:
        number, width = self._centres.shape
        noise = self._random.standard_normal((count, width), dtype=np.float32)
        return normalised(self._centres[self._random.integers(0, number, count)] + 0.7 * noise)


def build_synthetic_pool(path: Path) -> None:
    text, image = Clusters(200, TEXT_WIDTH).draw(ITEMS), Clusters(200, IMAGE_WIDTH).draw(ITEMS)
    tags = ItemTags(("red", "dark", "busy"), ("drama", "crime", "prison", "friendship"))
    items = [PoolItem(row, f"item{row}", f"Title {row}", "A text. " * 30, "a.jpg", tags) for row in range(ITEMS)]
    with PoolDraft(path, {}, Probes(np.ones(TEXT_WIDTH), np.ones(IMAGE_WIDTH))) as draft:
        draft.put([ItemRecord(item, "0" * 16, "0" * 16, 1.0) for item in items], text, image)
        draft.finish({"crop": "center_crop", "tagger": "none", "scenario": "none", "skipped": []}, 50_000)


def milliseconds(call, repeats: int) -> np.ndarray:
    times = []
    for number in range(repeats):
        start = time.perf_counter()
        call(number)
        times.append(1000 * (time.perf_counter() - start))
    return np.array(times)


def print_row(name: str, times: np.ndarray) -> None:
    print(f"| {name} | {np.median(times):.2f} | {np.percentile(times, 95):.2f} |", flush=True)


def benchmark_catalogue(folder: Path, repeats: int) -> None:
    path = folder / "pool"
    build_synthetic_pool(path)
    import faiss  # noqa: F401  (its import is not part of opening)

    print(f"| {ITEMS:,} items, text {TEXT_WIDTH}, image {IMAGE_WIDTH} | median ms | p95 ms |\n| --- | ---: | ---: |")
    print_row("open (every file's checksum included)", milliseconds(lambda _: EmbeddingPool.open(path).close(), 50))
    with EmbeddingPool.open(path) as pool:
        rows = np.random.default_rng(1).integers(0, ITEMS, repeats)

        def leave_out(row: int) -> LeaveOut:
            return LeaveOut(f"item{row}", pool.image_embeds([row])[0])

        def text(number: int) -> None:
            pool.search_text(pool.text_vectors[rows[number]], K, leave_out(rows[number]))

        def image(number: int) -> None:
            pool.search_image(pool.image_vectors[rows[number]], K, leave_out(rows[number]))

        print_row(f"text search, top {K}, leave-one-out", milliseconds(text, repeats))
        print_row(f"image search, top {K}, leave-one-out", milliseconds(image, repeats))


def memory() -> dict[str, float]:
    """This process's resident memory in MB: its own (RssAnon), and pages of mapped files (RssFile)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith("Rss")}


def benchmark_million(folder: Path, count: int, repeats: int) -> None:
    vectors_path, index_path = folder / "text.safetensors", folder / "text.faiss"
    clusters = Clusters(count // 100, TEXT_WIDTH)
    writer = VectorWriter(vectors_path, np.ones(TEXT_WIDTH))
    for start in range(0, count, 10_000):
        size = min(10_000, count - start)
        writer.write(list(range(start, start + size)), clusters.draw(size))
    writer.finish(count)
    writer.close()
    queries = clusters.draw(repeats).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)

    _, vectors = read_vectors(vectors_path, TEXT_WIDTH, count)
    start = time.perf_counter()
    description = build_index(index_path, vectors)
    built = time.perf_counter() - start
    kth_best = exact_kth_best(vectors, queries)
    del vectors

    before = memory()
    _, vectors = read_vectors(vectors_path, TEXT_WIDTH, count)
    start = time.perf_counter()
    nearest = NearestRows(index_path, vectors, description)
    opened = 1000 * (time.perf_counter() - start)
    found = np.zeros((repeats, K))

    def search(number: int) -> None:
        _, found[number] = nearest.nearest(queries[number], K, lambda rows: np.ones(len(rows), dtype=bool))

    times = milliseconds(search, repeats)
    growth = {kind: megabytes - before[kind] for kind, megabytes in memory().items()}
    recall = (found >= kth_best[:, None] - 1e-5).mean()
    print(f"\n| {count:,} x {TEXT_WIDTH}, {description} | |\n| --- | ---: |")
    print(f"| recall@{K} against brute force, {repeats} queries outside the pool | {recall:.4f} |")
    print(f"| search, median / p95 ms | {np.median(times):.2f} / {np.percentile(times, 95):.2f} |")
    print(f"| mapping the index, ms (checksums not included) | {opened:.1f} |")
    print(f"| own memory after {repeats} searches, MB | +{growth['RssAnon']:.0f} |")
    print(f"| pages of the mapped files read by then, MB (the system may drop them) | +{growth['RssFile']:.0f} |")
    print(f"| embeddings file, MB | {vectors_path.stat().st_size / 2**20:.0f} |")
    print(f"| index file, MB (its memory while it is built) | {index_path.stat().st_size / 2**20:.0f} |")
    print(f"| building the index, s | {built:.0f} |")


def exact_kth_best(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Each query's K-th largest cosine, by brute force."""
    best = np.full((len(queries), K), -np.inf)
    for start in range(0, len(vectors), 20_000):
        chunk = queries @ vectors[start : start + 20_000].astype(np.float32).T
        best = np.sort(np.concatenate([best, np.partition(chunk, -K, axis=1)[:, -K:]], axis=1), axis=1)[:, -K:]
    return best[:, 0]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000, help="searches timed (default: %(default)s)")
    parser.add_argument("--million", action="store_true", help="also 1,000,000 x 768 (5 minutes, 4 GB on the disk)")
    parser.add_argument("--folder", type=Path, help="where the files are made (default: a temporary folder)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        benchmark_catalogue(Path(folder), arguments.repeats)
        if arguments.million:
            benchmark_million(Path(folder), 1_000_000, arguments.repeats)


if __name__ == "__main__":
    main()
