"""Making a questionnaire: the same command gives the same study, and what cannot be asked about is refused."""

import base64
import io
import json

import pytest
from PIL import Image
from small_catalogue import write_items
from small_galleries import write_gallery

from iamg_train.cli import main


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_items(folder / "items", count=40, users=1)
    write_gallery(folder / "first", 20)
    write_gallery(folder / "second", 160)
    return folder


def _words(world, out, *arguments, names=("first", "second"), items="items"):
    methods = [f"{name}={world / name}" for name in names]
    words = ["questionnaire", "make", *methods, "--items", str(world / items), "--out", str(out / "study.html")]
    return [*words, "--questions", "3", *arguments]


def make(world, out, *arguments, names=("first", "second"), items="items"):
    """The page's data and the key; the command's status where it failed."""
    status = main(_words(world, out, *arguments, names=names, items=items))
    if status:
        assert not out.exists() or not list(out.iterdir())
        return status
    page = (out / "study.html").read_text(encoding="utf-8")
    return json.loads(page.split('id="study">')[1].split("</script>")[0]), json.loads(
        (out / "study.key.json").read_text()
    )


def test_the_same_command_gives_the_same_study_and_another_seed_another(world, tmp_path):
    first, again, other = (make(world, tmp_path / n, "--seed", s) for n, s in (("a", "0"), ("b", "0"), ("c", "1")))
    assert first == again and first[0]["id"] != other[0]["id"] and first[1] != other[1]


def test_the_key_of_another_study_is_never_written_over(world, tmp_path, capsys):
    _, key = make(world, tmp_path)
    assert make(world, tmp_path)[1] == key
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(_words(world, tmp_path, "--seed", "1")) == 2
    assert "is the key of another study" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_key_names_every_picture_of_the_page_and_each_case_once(world, tmp_path):
    study, key = make(world, tmp_path, "--cases", "5", "--checks", "1")
    assert study["id"] == key["study"] and study["each"] == key["questions_each"] == 3
    assert len(study["questions"]) == 5 and len(study["checks"]) == 1
    of_page = {x["id"]: {y["id"] for y in x["pictures"]} for x in [*study["questions"], *study["checks"]]}
    of_key = {x: set(y["pictures"]) for x, y in [*key["questions"].items(), *key["checks"].items()]}
    assert of_page == of_key
    cases = [(x["user_id"], x["objective"]) for x in key["questions"].values()]
    assert len(set(cases)) == 5 and set(cases) <= {(f"u{n}", f"i{n}") for n in range(6)}


def test_a_pictures_id_says_nothing_of_its_method(world, tmp_path):
    """Over many studies each method has the lowest id of a question as often as another."""
    lowest = []
    for seed in range(12):
        _, key = make(world, tmp_path / str(seed), "--cases", "6", "--checks", "0", "--seed", str(seed))
        for question in key["questions"].values():
            lowest.append(question["pictures"][min(question["pictures"], key=lambda x: int(x[1:]))])
    assert len(lowest) == 72
    assert all(10 <= lowest.count(name) <= 38 for name in ("first", "second", "original item"))  # 24 expected


def test_a_check_shows_the_picture_that_is_right_and_no_objective(world, tmp_path):
    study, key = make(world, tmp_path)
    objectives = {x["objective"] for x in key["questions"].values()}
    for check in study["checks"]:
        right = key["checks"][check["id"]]["right"]
        same = [x["id"] for x in check["pictures"] if x["picture"] == check["shown"]]
        assert same == [right] and key["checks"][check["id"]]["item"] not in objectives


def test_pictures_carry_nothing_of_their_files(world, tmp_path):
    study, _ = make(world, tmp_path)
    assert study["images"]
    for image in study["images"].values():
        assert Image.open(io.BytesIO(base64.b64decode(image["source"].split(",")[1]))).info.keys() <= {"jfif", "dpi"}


REFUSED = {
    "more questions than cases": (("--questions", "7"), "6 users and objectives in common, 7 are to be asked"),
    "fewer cases than questions": (("--cases", "2"), "--cases 2 are fewer than --questions 3"),
    "too many checks": (("--checks", "36"), "lower --checks"),
    "no such user info": (("--user-info", "nowhere.csv"), "nowhere.csv"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_asked_is_refused_and_nothing_is_written(world, tmp_path, capsys, case):
    arguments, words = REFUSED[case]
    assert make(world, tmp_path / "out", *arguments) == 2
    assert words in capsys.readouterr().err


def test_an_item_of_a_history_that_is_not_there_is_named(world, tmp_path, capsys):
    write_items(world / "fewer", count=20, users=1)
    assert make(world, tmp_path / "out", items="fewer") == 2
    assert "has no item 'i20'" in capsys.readouterr().err


def test_more_methods_than_a_person_can_rank_are_refused(world, tmp_path, capsys):
    names = [f"m{n}" for n in range(9)]
    for number, name in enumerate(names):
        write_gallery(world / name, 10 * number, pictures=1)
    assert make(world, tmp_path / "out", names=names) == 2
    assert "10 methods are more than the 8" in capsys.readouterr().err
