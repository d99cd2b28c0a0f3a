import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_catalogue import write_items

from iamg.interactions import read_history
from iamg_train.evaluation.catalogue import find_histories, read_catalogue
from iamg_train.evaluation.methods import Method, Shot
from iamg_train.evaluation.metric_settings import MetricSettings


@pytest.fixture
def items(tmp_path) -> Path:
    return write_items(tmp_path / "items", count=16, users=8)


def test_a_catalogue_has_pictures_texts_and_the_tags_of_its_metadata(items):
    catalogue = read_catalogue(items)
    assert catalogue.pictures["i3"] == items / "images" / "3.png" and len(catalogue.pictures) == 16
    assert catalogue.texts["i3"] == "Film 3. A yellow story about number 3."
    assert catalogue.interests(("i3", "i7", "unknown"), 1) == ("yellow",)


def test_tags_that_were_found_take_the_place_of_the_metadata(items):
    row = {"item_id": "i3", "image_tags": ["dark tones"], "text_tags": ["ships"]}
    (items / "tags.jsonl").write_text(json.dumps(row) + "\n")
    assert set(read_catalogue(items).interests(("i3",), 5)) == {"dark tones", "ships"}
    (items / "tags.jsonl").write_text('{"item_id": "i3"}\n')
    with pytest.raises(ValueError, match="tags.jsonl is not as `iamg-train tag` writes it"):
        read_catalogue(items)


def test_histories_are_the_manifests_or_else_those_of_the_interactions(items):
    catalogue = read_catalogue(items)
    file = items / "interactions.csv"
    own = read_history(file, "u1", catalogue.pictures, k=2)
    shots = (
        Shot(Path("a.png"), "u0", "i5", ("i1", "gone", "i2"), 0),
        Shot(Path("b.png"), "u1", own.objective, (), 0),
        Shot(Path("c.png"), "stranger", "i5", (), 0),
    )
    method, settings = Method("ours", items, shots, "", {}), MetricSettings(interactions=file, history_length=2)
    told = {("u0", "i5"): ("i1", "i2")}
    assert find_histories(method, catalogue, settings) == told | {("u1", own.objective): own.items}
    assert find_histories(method, catalogue, replace(settings, interactions=None)) == told
