"""`iamg-train judge` against judges that know what they want, judges that do not, and servers that misbehave."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fake_endpoint import FakeEndpoint, pictures_of, prompt_of
from PIL import Image
from small_catalogue import write_items
from small_galleries import write_gallery

from iamg.tagging import endpoint as endpoint_module
from iamg_train.cli import main
from iamg_train.evaluation import ranking
from iamg_train.evaluation.judge_prompt import judge_prompt

ROOT = Path(__file__).parents[3]
SHADES = {"gloomy": 20, "usual": 90, "sunny": 180}
USERS = 6
KEY = "sk-a-secret-key"


def ranked(order) -> str:
    return json.dumps({"ranking": [place + 1 for place in order], "reason": "it appeals"})


def brightest(request) -> str:
    """A judge with a taste."""
    return ranked(np.argsort([-np.asarray(picture.convert("L")).mean() for picture in pictures_of(request)]).tolist())


def first_shown(request) -> str:
    """A judge that looks at nothing but the order."""
    return ranked(range(len(pictures_of(request))))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    for name, shade in SHADES.items():
        write_gallery(folder / name, shade, USERS)
    return {"items": write_items(folder / "items"), **{name: folder / name for name in SHADES}}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(endpoint_module, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(ranking, "STRENGTH_RESAMPLES", 100)


@pytest.fixture
def endpoint(monkeypatch):
    """Starts endpoints, which the environment then names."""
    running = []

    def start(*script, says=brightest, **options):
        running.append(FakeEndpoint(script or ("json",), says=says, **options).__enter__())
        monkeypatch.setenv("IAMG_ENDPOINT_URL", running[-1].url)
        monkeypatch.setenv("IAMG_ENDPOINT_VISION_MODEL", "a-judge")
        monkeypatch.setenv("IAMG_ENDPOINT_KEY", KEY)
        return running[-1]

    yield start
    for server in running:
        server.__exit__()


def command(world, out, *flags) -> list[str]:
    named = [f"{name}={world[name]}" for name in SHADES]
    return ["judge", *named, "--items", str(world["items"]), "--out", str(out), "--no-original", *flags]


def results_of(out) -> dict:
    return json.loads((out / "ranking.json").read_text())


def rows_of(out) -> list[dict]:
    return [json.loads(line) for line in (out / "judgements.jsonl").read_text().splitlines()]


# ---- what is asked


def test_the_judge_sees_pictures_and_texts_and_never_a_method_a_file_or_a_user(world, tmp_path, endpoint):
    server = endpoint()
    assert main(command(world, tmp_path)) == 0
    assert len(server.requests) == 2 * USERS
    for request in server.requests:
        prompt = prompt_of(request)
        assert prompt.index("story about number 20.") < prompt.index("story about number 21.")  # the newest first
        assert [picture.size for picture in pictures_of(request)] == [(64, 64)] * 3
        words = json.dumps({**request, "messages": prompt})
        assert not any(word in words for word in (*SHADES, ".png", "u0", "u1", "i20", str(tmp_path)))
        assert request["response_format"]["json_schema"]["schema"]["properties"]["ranking"]["maxItems"] == 3
        assert request["model"] == "a-judge"
    assert KEY not in "".join(path.read_text() for path in tmp_path.iterdir())


@pytest.mark.parametrize("orders", [2, 4, 6])
def test_each_slot_order_is_asked_once_and_its_reverse_too(world, tmp_path, endpoint, orders):
    endpoint()
    assert main(command(world, tmp_path, "--orders", str(orders))) == 0
    slots = [[tuple(row["slots"]) for row in rows_of(tmp_path) if row["user_id"] == f"u{n}"] for n in range(USERS)]
    assert all(len(own) == len(set(own)) == orders for own in slots)
    assert all({*own} == {order[::-1] for order in own} for own in slots)
    assert len({order for own in slots for order in own}) > 2


def test_what_is_known_of_a_user_is_told_in_that_user_s_questions_only(world, tmp_path, endpoint):
    server = endpoint()
    (tmp_path / "people.csv").write_text("user_id,info\nu3,a sailor of 60\n")
    assert main(command(world, tmp_path / "out", "--user-info", str(tmp_path / "people.csv"))) == 0
    assert sum("a sailor of 60" in prompt_of(request) for request in server.requests) == 2


def test_what_a_method_lacks_is_not_asked_about_and_told_of(world, tmp_path, endpoint, capsys):
    server, few = endpoint(), {**world, "usual": write_gallery(tmp_path / "few", 90, USERS - 2)}
    assert main(command(few, tmp_path / "out")) == 0
    assert len(server.requests) == 2 * (USERS - 2)
    assert "sunny: 2 users and objectives" in capsys.readouterr().out
    assert results_of(tmp_path / "out")["left_out"] == dict.fromkeys(("gloomy", "sunny"), "2 users and objectives")


def test_the_history_told_is_the_first_method_s(world, tmp_path, endpoint):
    server = endpoint()
    other = write_gallery(tmp_path / "shuffled", 90, USERS, history=["i40"])
    argv = ["judge", f"shuffled={other}", f"own={world['sunny']}", *command(world, tmp_path / "out")[4:]]
    assert main(argv) == 0
    assert all("number 40." in prompt_of(request) for request in server.requests)
    asked = len(server.requests)
    assert main([argv[0], argv[2], argv[1], *argv[3:]]) == 0
    assert not any("number 40." in prompt_of(request) for request in server.requests[asked:])


def test_a_dry_run_says_what_it_would_ask_and_asks_nothing(world, tmp_path, endpoint, capsys):
    server = endpoint()
    assert main(command(world, tmp_path, "--mode", "pairs", "--users", "4", "--dry-run")) == 0
    assert "24 requests to a-judge, with 48 pictures" in capsys.readouterr().out
    assert not server.requests and not list(tmp_path.iterdir())


# ---- what comes of it


@pytest.mark.parametrize(("mode", "questions"), [("rank", 2), ("pairs", 6)])
def test_a_planted_preference_is_recovered(world, tmp_path, endpoint, capsys, mode, questions):
    server = endpoint()
    assert main(command(world, tmp_path, "--mode", mode)) == 0
    assert len(server.requests) == questions * USERS == len(rows_of(tmp_path))
    found = results_of(tmp_path)
    assert (found["users"], found["cases"], found["judge"]) == (USERS, USERS, "a-judge")
    assert [found["methods"][name]["mean_rank"]["mean"] for name in SHADES] == [3.0, 2.0, 1.0]
    assert [found["methods"][name]["best"]["mean"] for name in SHADES] == [0.0, 0.0, 1.0]
    strengths = [found["methods"][name]["strength"] for name in SHADES]
    assert strengths[0]["high"] < strengths[1]["low"] and strengths[1]["high"] < strengths[2]["low"]
    assert found["order_consistency"]["mean"] == 1.0
    assert found["first_slot"]["chance"] == (1 / 3 if mode == "rank" else 1 / 2)
    assert all((duel["won"], duel["tied"], duel["lost"]) == (0.0, 0.0, 1.0) for duel in found["duels"])
    told = capsys.readouterr().out
    assert told.index("sunny ") < told.index("usual ") < told.index("gloomy ")


@pytest.mark.parametrize("mode", ["rank", "pairs"])
def test_a_judge_that_always_takes_the_first_shows_as_that_and_as_no_preference(world, tmp_path, endpoint, mode):
    endpoint(says=first_shown)
    assert main(command(world, tmp_path, "--mode", mode)) == 0
    found = results_of(tmp_path)
    assert found["first_slot"]["mean"] == 1.0 and found["order_consistency"]["mean"] == 0.0
    for standing in found["methods"].values():
        assert standing["mean_rank"]["mean"] == 2.0 and standing["best"]["mean"] == pytest.approx(1 / 3)
        assert standing["strength"]["mean"] == pytest.approx(0.0, abs=1e-6)
    assert all(duel["tied"] == 1.0 and duel["p"] == 1.0 for duel in found["duels"])


def test_the_item_s_own_picture_is_a_method_unless_told_otherwise(world, tmp_path, endpoint):
    endpoint()
    assert main([flag for flag in command(world, tmp_path) if flag != "--no-original"]) == 0
    assert set(results_of(tmp_path)["methods"]) == {*SHADES, "original item"}


def test_pictures_that_are_alike_are_asked_about_once_and_tie(world, tmp_path, endpoint):
    server = endpoint()
    argv = ["judge", f"one={world['sunny']}", f"two={world['sunny']}", *command(world, tmp_path)[4:]]
    assert main(argv) == 0
    assert len(server.requests) == USERS
    assert results_of(tmp_path)["duels"][0]["tied"] == 1.0


# ---- a server that misbehaves


def test_an_answer_that_cannot_be_used_is_asked_for_again_with_what_was_wrong(world, tmp_path, endpoint):
    server = endpoint("prose", "json", "empty", "json", "json")
    settings = tmp_path / "settings.toml"
    settings.write_text(f'url = "{server.url}"\nvision_model = "a-judge"\nconcurrency = 1\n')
    assert main(command(world, tmp_path / "out", "--endpoint", str(settings))) == 0
    assert len(server.requests) == 2 * USERS + 2 and len(rows_of(tmp_path / "out")) == 2 * USERS
    assert "it has no JSON with a ranking. Answer with nothing but JSON" in prompt_of(server.requests[1])
    assert "it is empty" in prompt_of(server.requests[3])
    assert results_of(tmp_path / "out")["answers"] == {"wanted": 12, "usable": 12, "problems": {}}


@pytest.mark.parametrize("trouble", ["429", "500", "timeout", "half", "not json"])
def test_trouble_that_passes_is_waited_out(world, tmp_path, endpoint, trouble):
    server = endpoint(trouble, "json", silence=2.0)
    settings = tmp_path / "settings.toml"
    settings.write_text(f'url = "{server.url}"\nvision_model = "a-judge"\ntimeout = 0.5\nconcurrency = 1\n')
    assert main(command(world, tmp_path / "out", "--endpoint", str(settings))) == 0
    assert len(server.requests) == 2 * USERS + 1
    assert results_of(tmp_path / "out")["answers"]["usable"] == 2 * USERS


def test_a_case_whose_orders_are_not_all_answered_does_not_count(world, tmp_path, endpoint):
    def refuses_one_order(request):
        first, *_, last = (np.asarray(picture).mean() for picture in pictures_of(request))
        if "number 3." in prompt_of(request) and first > last:
            return "I'm sorry, but I can't help with that."
        return brightest(request)

    endpoint(says=refuses_one_order)
    assert main(command(world, tmp_path)) == 0
    found = results_of(tmp_path)
    assert found["cases"] == found["users"] == USERS - 1
    assert found["answers"] == {"wanted": 12, "usable": 11, "problems": {"it refuses": 1}}
    assert found["methods"]["sunny"]["mean_rank"]["mean"] == 1.0


def test_a_judge_that_refuses_everything_is_told_of_and_asked_again_only_on_request(world, tmp_path, endpoint, capsys):
    server = endpoint("refusal")
    assert main(command(world, tmp_path)) == 2
    assert "no usable answer" in capsys.readouterr().err and not (tmp_path / "ranking.json").exists()
    asked = len(server.requests)
    assert asked == 3 * 2 * USERS
    assert main(command(world, tmp_path)) == 2 and len(server.requests) == asked
    server.script[:] = ["json"]
    assert main(command(world, tmp_path, "--retry-failed")) == 0
    assert len(server.requests) == asked + 2 * USERS
    assert results_of(tmp_path)["answers"] == {"wanted": 12, "usable": 12, "problems": {}}


def test_what_was_answered_before_an_endpoint_failed_is_kept(world, tmp_path, endpoint, capsys):
    server = endpoint(*["json"] * 8, "redirect")
    assert main(command(world, tmp_path)) == 2
    assert "307" in capsys.readouterr().err
    assert len(rows_of(tmp_path)) == 8
    server.script[:], asked = ["json"], len(server.requests)
    assert main(command(world, tmp_path)) == 0
    assert len(server.requests) == asked + 4


# ---- what is kept


def test_nothing_is_asked_twice_whatever_the_methods_are_called(world, tmp_path, endpoint):
    server = endpoint()
    assert main(command(world, tmp_path)) == 0
    before, asked = results_of(tmp_path), len(server.requests)
    assert main(command(world, tmp_path)) == 0
    assert len(server.requests) == asked and results_of(tmp_path) == before
    renamed = [flag.replace("sunny=", "zunny=") for flag in command(world, tmp_path)]
    assert main(renamed) == 0 and results_of(tmp_path)["methods"]["zunny"] == before["methods"]["sunny"]


def test_in_pairs_a_further_method_costs_its_own_pairs_only(world, tmp_path, endpoint):
    server, argv = endpoint(), command(world, tmp_path, "--mode", "pairs")
    assert main([flag for flag in argv if not flag.startswith("usual=")]) == 0
    assert len(server.requests) == 2 * USERS
    assert main(argv) == 0
    assert len(server.requests) == 6 * USERS
    assert results_of(tmp_path)["answers"]["usable"] == 6 * USERS


def test_another_picture_or_another_judge_is_asked_about_anew(world, tmp_path, endpoint):
    server, changed = endpoint(), {**world, "usual": write_gallery(tmp_path / "changed", 95, USERS)}
    out = tmp_path / "out"
    assert main(command(world, out)) == 0
    assert main(command(changed, out)) == 0
    assert len(server.requests) == 4 * USERS
    assert main(command(changed, out, "--vision-model", "another")) == 0
    assert len(server.requests) == 6 * USERS
    assert results_of(out)["answers"]["wanted"] == 2 * USERS


def test_rows_that_are_torn_or_a_stranger_s_do_not_count(world, tmp_path, endpoint):
    server = endpoint()
    assert main(command(world, tmp_path)) == 0
    lines = (tmp_path / "judgements.jsonl").read_text().splitlines()
    wrong = json.dumps({**json.loads(lines[0]), "ranking": [1, 1, 2]})
    short = json.dumps({**json.loads(lines[1]), "ranking": [1, 2]})
    (tmp_path / "judgements.jsonl").write_text("\n".join([wrong, "[]", short, *lines[2:-1], lines[-1][:40]]))
    assert main(command(world, tmp_path)) == 0
    assert len(server.requests) == 2 * USERS + 3
    assert results_of(tmp_path)["answers"]["usable"] == 2 * USERS


@pytest.mark.slow
def test_after_kills_the_rerun_asks_only_for_what_is_missing(tmp_path, endpoint):
    """kill -9 while 400 questions are asked, twice."""
    items, galleries = write_items(tmp_path / "items", count=48), {}
    for name, shade in (("dark", 20), ("light", 180)):
        galleries[name] = write_gallery(tmp_path / name, shade, users=17, pictures=12)
    server, out = endpoint(delay=0.01), tmp_path / "out"
    argv = ["judge", *(f"{name}={folder}" for name, folder in galleries.items()), "--items", str(items)]
    argv += ["--out", str(out), "--no-original", "--pictures", "12"]
    wanted, batch = 2 * 17 * 12, 4

    before = 0
    for stop_at in (100, 250):
        process = subprocess.Popen(
            [sys.executable, "-m", "iamg_train", *argv], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 240
        while len(server.requests) < stop_at:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1].decode()
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        time.sleep(0.2)  # requests that are still on their way to the server
        lost = len(server.requests) - len(rows_of(out))
        assert 0 <= lost - before <= batch  # the batch that was in flight
        before = lost
    asked, missing = len(server.requests), wanted - len(rows_of(out))
    assert 0 < missing < wanted - 200
    assert main(argv) == 0
    assert len(server.requests) - asked == missing
    keys = [row["key"] for row in rows_of(out)]
    assert len(keys) == len(set(keys)) == wanted
    assert results_of(out)["answers"] == {"wanted": wanted, "usable": wanted, "problems": {}}
    assert results_of(out)["users"] == 17


# ---- a model of this machine


def test_a_vision_language_model_of_this_machine_is_a_judge_too(tmp_path):
    """A LLaVA of a few layers, which was taught to prefer red, wherever it is shown."""
    from tiny_language_models import teach, write_llava

    items, folders = write_items(tmp_path / "items", count=8), {}
    for name in ("red", "blue"):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        Image.new("RGB", (40, 40), name).save(folders[name] / "a.png")
        row = {"file": "a.png", "user_id": "u0", "objective": "i0", "history": ["i1"]}
        (folders[name] / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    prompt = judge_prompt(
        "movie poster", ["Film 1. A green story about number 1."], "Film 0. A red story about number 0.", 2
    )
    red, blue = (Image.new("RGB", (40, 40), name) for name in folders)
    model = write_llava(tmp_path / "llava")
    teach(model, [((red, blue), prompt, ranked([0, 1])), ((blue, red), prompt, ranked([1, 0]))])
    argv = ["judge", *(f"{name}={folder}" for name, folder in folders.items()), "--items", str(items)]
    argv += ["--out", str(tmp_path / "out"), "--no-original", "--judge", "transformers", "--vision-model", str(model)]
    assert main(argv) == 0
    found = results_of(tmp_path / "out")
    assert found["methods"]["red"]["mean_rank"]["mean"] == 1.0 and found["order_consistency"]["mean"] == 1.0
    assert found["first_slot"]["mean"] == 0.5


# ---- what cannot be judged


def test_a_catalogue_without_the_objective_is_told_of(world, tmp_path, endpoint, capsys):
    server = endpoint()
    items = write_items(tmp_path / "few", count=4)
    argv = [str(items) if flag == str(world["items"]) else flag for flag in command(world, tmp_path / "out")]
    assert main(argv) == 2
    assert "the items have no 'i20'" in capsys.readouterr().err and not server.requests


def test_a_gallery_without_histories_is_told_of(world, tmp_path, endpoint, capsys):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "a.png")
        row = {"file": "a.png", "user_id": "u0", "objective": "i0"}
        (tmp_path / name / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    endpoint()
    argv = ["judge", f"one={tmp_path / 'one'}", f"two={tmp_path / 'two'}", *command(world, tmp_path / "out")[4:]]
    assert main(argv) == 2
    assert "what user 'u0' met before 'i0'" in capsys.readouterr().err


def test_without_a_judge_nothing_is_begun(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IAMG_ENDPOINT_URL", "http://127.0.0.1:9/v1")
    monkeypatch.delenv("IAMG_ENDPOINT_VISION_MODEL", raising=False)
    assert main(command(world, tmp_path / "out")) == 2
    assert "there is no judge" in capsys.readouterr().err and not (tmp_path / "out").exists()
