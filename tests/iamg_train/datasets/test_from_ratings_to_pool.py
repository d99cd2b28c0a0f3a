"""The commands of docs/datasets.md, one after the other, up to what ComfyUI's nodes open."""

import pytest
from small_datasets import run_import, write_files, write_pictures
from small_models import write_family

from iamg.interactions import read_history
from iamg.pool import EmbeddingPool
from iamg_train.cli import main

TITLES = (
    "Toy Story (1995)",
    "Fugitive, The (1993)",
    "Bug's Life, A (1998)",
    "Heat (1995)",
    "Sabrina (1995)",
    "Jaws (1975)",
)


@pytest.mark.slow
def test_from_ratings_and_posters_to_a_pool_and_a_history(tmp_path):
    numbers = range(len(TITLES))
    movies = [f'{number},"{TITLES[number]}",Drama|Comedy' for number in numbers]
    ratings = [f"{user},{(user + time) % len(TITLES)},{4 + time % 2},{time}" for user in range(4) for time in numbers]
    source = write_files(
        tmp_path / "ml",
        movies_csv="\n".join(("movieId,title,genres", *movies)),
        ratings_csv="\n".join(("userId,movieId,rating,timestamp", *ratings)),
    )
    posters = write_pictures(tmp_path / "posters", *(f"{number}.jpg" for number in numbers))
    films, family = tmp_path / "films", write_family(tmp_path / "models")
    imported = run_import("movielens", source, films, "--posters", posters)
    tagging = ["--tagger", "visual + keywords", "--tag-cache", str(films / "tags.sqlite")]
    assert main(["tag", str(films), *tagging]) == 0
    assert main(["data", "check", str(films)]) == 0
    weights = ["--checkpoint", str(family["checkpoint"]), "--clip-vision", str(family["clip_vision"])]
    assert (
        main(["pool", "build", str(films), *tagging, *weights, "--device", "cpu", "--out", str(tmp_path / "pools")])
        == 0
    )
    with EmbeddingPool.open(tmp_path / "pools" / "films") as pool:
        history = read_history(films / "interactions.csv", "1", pool.contains)
        assert len(pool) == len(imported.items) and pool.item(history.objective).title == "Toy Story"
