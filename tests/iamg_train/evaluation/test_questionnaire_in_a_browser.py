"""The questionnaire in a real Chromium: answered by keyboard, reloaded, saved; what is saved is what `score` reads."""

import json
import time
from collections import Counter

import pytest
from browser import LIMIT, Browser
from small_catalogue import write_items
from small_galleries import write_gallery

from iamg_train.cli import main
from iamg_train.evaluation.answers import read_answers, read_key

QUESTIONS, CHECKS = 3, 2
SECRET = "zauberwort"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two methods and the original; a title that would be a script."""
    folder = tmp_path_factory.mktemp("study")
    items = write_items(folder / "items", count=36, users=1)
    lines = (items / "metadata.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows[0]["title"] = rows[1]["title"] = "</script><script>document.title = 'taken'</script><!--"
    (items / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "users.csv").write_text("user_id,info\nu0,a nurse of 40\nu1,a nurse of 40\nu2,a nurse of 40\n")
    page = folder / "out" / "study.html"
    methods = [
        f"{SECRET}={write_gallery(folder / 'first', 20, users=3, checkpoint=SECRET)}",
        f"{SECRET}2={write_gallery(folder / 'second', 160, users=3)}",
    ]
    arguments = ["--questions", str(QUESTIONS), "--checks", str(CHECKS), "--user-info", str(folder / "users.csv")]
    assert main(["questionnaire", "make", *methods, "--items", str(items), "--out", str(page), *arguments]) == 0
    return page


@pytest.fixture
def folders(tmp_path):
    for name in ("profile", "downloads"):
        (tmp_path / name).mkdir()
    return tmp_path / "profile", tmp_path / "downloads"


def begin(browser, code):
    """Types a code and begins, by keyboard alone."""
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.id") == "code"
    for letter in code:
        browser.press(letter)
    browser.press("Enter")
    browser.wait_for("!byId('question').hidden")


def focus_on(browser, test):
    """Tabs to what the test, an expression of `e`, is true of."""
    for _ in range(30):
        if browser.evaluate(f"(e => {test})(document.activeElement)"):
            return
        browser.press("Tab")
    raise AssertionError(f"Tab does not reach {test}")


def shown(browser):
    """The pictures' ids by position."""
    return browser.evaluate("[...byId('pictures').children].map(x => x.dataset.id)")


def question(browser):
    return browser.evaluate("asked[state.place]")


def test_a_study_answered_by_keyboard_is_what_score_reads_back(study, folders):
    key = read_key(study.with_suffix(".key.json"))
    wanted = {}
    with Browser(*folders) as browser:
        browser.open(study)
        begin(browser, "p07")
        for number in range(1, QUESTIONS + CHECKS + 1):
            heading = browser.evaluate("document.activeElement.textContent")
            assert heading == f"Question {number} of {QUESTIONS + CHECKS}"
            asked, pictures = question(browser), shown(browser)
            order = sorted(pictures)
            if asked in key.checks:
                order.sort(key=lambda x: x != key.checks[asked].right)
                assert not browser.evaluate("byId('before').checkVisibility()")
            else:
                assert "a nurse of 40" in browser.evaluate("byId('who').textContent")
                assert browser.evaluate("byId('history').children.length") == 3
            for rank, picture in enumerate(order, 1):
                focus_on(browser, f"e.dataset.id === '{picture}'")
                browser.press(" ")
                assert f"has rank {rank}." in browser.evaluate("byId('told').textContent")
            wanted[asked] = order
            focus_on(browser, "e.id === 'next'")
            browser.press("Enter")
        focus_on(browser, "e.id === 'save'")
        browser.press("Enter")
        end = time.monotonic() + LIMIT
        while not (found := list(folders[1].glob("*.json"))):
            assert time.monotonic() < end
            time.sleep(0.05)
        assert browser.errors == []
        assert browser.asked_for == [study.resolve().as_uri()]
        assert browser.evaluate("document.title") != "taken"
    sheets, dropped = read_answers(found, key, failed_checks=0, min_seconds=0)
    assert dropped == [] and sheets[0].code == "P07"
    assert {answer.question: list(answer.order) for answer in sheets[0].answers} == wanted


def test_a_reload_and_a_new_browser_lose_nothing(study, folders):
    with Browser(*folders) as browser:
        browser.open(study)
        begin(browser, "x")
        for letter in "bac":
            browser.press(letter)
        focus_on(browser, "e.id === 'next'")
        browser.press("Enter")
        browser.press("c")
        before = browser.evaluate("JSON.stringify([state.answers, asked])"), question(browser), shown(browser)
        chosen = shown(browser)[2]
        browser.open(study)
        assert question(browser) == before[1] and shown(browser) == before[2]
        assert browser.evaluate("byId('pictures').querySelector('[aria-pressed=true]').dataset.id") == chosen
    with Browser(*folders) as browser:
        browser.open(study)
        assert (question(browser), shown(browser)) == before[1:]
        answers, asked = json.loads(before[0])
        assert browser.evaluate("asked") == asked
        kept = browser.evaluate("state.answers")
        assert {x: y["order"] for x, y in kept.items()} == {x: y["order"] for x, y in answers.items()}
        assert kept[asked[0]]["order"] and kept[asked[0]]["seconds"] > 0


def test_a_question_is_not_left_before_all_is_ranked_and_a_rank_can_be_taken_away(study, folders):
    with Browser(*folders) as browser:
        browser.open(study)
        begin(browser, "x")
        first = question(browser)
        for letter in "ab":
            browser.press(letter)
        browser.evaluate("byId('next').click()")
        assert question(browser) == first
        assert "1 of the pictures has no rank" in browser.evaluate("byId('told').textContent")
        a, b, c = shown(browser)
        assert browser.evaluate("document.activeElement.dataset.id") == c
        for letter in "ac":
            browser.press(letter)
        assert browser.evaluate(f"state.answers['{first}'].order") == [b, c]
        labels = browser.evaluate("[...byId('pictures').children].map(x => x.getAttribute('aria-label'))")
        assert labels == ["Picture A, no rank yet", "Picture B, rank 1", "Picture C, rank 2"]


def test_positions_and_order_depend_on_the_code_alone_and_are_even(study, folders):
    codes = [f"C{number}" for number in range(600)]
    positions = "(code => [...questions.values()].map(x => positionsOf(x, code)))"
    with Browser(*folders) as browser:
        browser.open(study)
        drawn = browser.evaluate(f"{json.dumps(codes)}.map({positions})")
        orders = browser.evaluate(f"{json.dumps(codes)}.map(questionsOf)")
        browser.open(study)
        assert browser.evaluate(f"{json.dumps(codes)}.map({positions})") == drawn
    of_first = Counter(tuple(x[0]) for x in drawn)
    assert len(of_first) == 6  # every order of three
    assert max(abs(count - 100) for count in of_first.values()) < 45  # 5 standard deviations of 600 fair draws
    together = Counter(
        (tuple(sorted(x[0]).index(y) for y in x[0]), tuple(sorted(x[1]).index(y) for y in x[1])) for x in drawn
    )
    assert len(together) == 36  # one question's positions say nothing of another's
    starts = Counter(order[0] for order in orders)
    assert len(starts) == QUESTIONS + CHECKS and min(starts.values()) > 60  # of 120 expected


def test_it_can_be_used_on_a_phone_and_by_a_screen_reader(study, folders):
    with Browser(*folders) as browser:
        browser.screen(360, 740)
        browser.open(study)
        begin(browser, "x")
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        small = (
            "[...document.querySelectorAll('button')].filter(x => x.checkVisibility() && x.offsetHeight < 44).length"
        )
        assert browser.evaluate(small) == 0
        tree = browser.call("Accessibility.getFullAXTree")["nodes"]
        named = {(x["role"]["value"], x.get("name", {}).get("value", "")) for x in tree if not x["ignored"]}
        roles = {"button", "textbox", "progressbar", "region", "group"}
        assert all(name for role, name in named if role in roles)
        assert {name for role, name in named if role == "button"} >= {f"Picture {x}, no rank yet" for x in "ABC"}


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_contrast(study, folders, dark):
    """WCAG's 4.5 to 1, of every text that is shown against the nearest background."""
    script = """(() => {
      const rgb = text => text.match(/[\\d.]+/g).map(Number)
      const light = c => { const [r, g, b] = c.map(x => x / 255).map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b }
      const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor)
        if (c.length === 3 || c[3] > 0) return c.slice(0, 3) } }
      return [...document.querySelectorAll('main *')].filter(e => e.checkVisibility() &&
        [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).map(e => {
          const [a, b] = [light(rgb(getComputedStyle(e).color).slice(0, 3)), light(behind(e))].sort((x, y) => y - x)
          return [e.textContent.slice(0, 30), (a + 0.05) / (b + 0.05)] })
    })()"""
    with Browser(*folders) as browser:
        browser.screen(1000, 800, dark)
        browser.open(study)
        found = browser.evaluate(script)
        begin(browser, "x")
        browser.press("a")
        found += browser.evaluate(script)
    assert len(found) > 15
    assert [x for x in found if x[1] < 4.5] == []


def test_the_page_does_not_say_whose_a_picture_is(study):
    page = study.read_text()
    key = json.loads(study.with_suffix(".key.json").read_text())
    assert SECRET in json.dumps(key) and SECRET not in page and "original item" not in page
    names = [list(x["pictures"].values()) for x in key["questions"].values()]
    assert all(sorted(x) == sorted([SECRET, f"{SECRET}2", "original item"]) for x in names)
    given = json.loads(page.split('id="study">')[1].split("</script>")[0])
    for asked in given["questions"]:
        assert set(asked) == {"id", "who", "history", "title", "text", "pictures"}
    assert list(given["images"]) == sorted(given["images"])
    assert "u0" not in json.dumps([{k: v for k, v in given.items() if k != "images"}])


def test_the_next_participant_finds_nothing_of_the_one_before(study, folders):
    with Browser(*folders) as browser:
        browser.open(study)
        begin(browser, "x")
        while not browser.evaluate("state.place === asked.length"):
            browser.evaluate("document.querySelectorAll('.picture').forEach(x => x.click())")
            browser.evaluate("byId('next').click()")
        finished = browser.evaluate("JSON.parse(byId('json').value)")
        assert finished["code"] == "X" and len(finished["answers"]) == QUESTIONS + CHECKS
        browser.evaluate("window.confirm = () => false; byId('another').click()")
        assert browser.evaluate("state.code") == "X"
        browser.evaluate("window.confirm = () => true; byId('another').click()")
        assert browser.evaluate("[localStorage.length, state, byId('welcome').checkVisibility()]") == [0, None, True]


def test_a_browser_that_keeps_nothing_is_told_of_and_can_be_used(study, folders):
    with Browser(*folders) as browser:
        browser.open(study)
        assert not browser.evaluate("byId('unkept').checkVisibility()")
        browser.evaluate("Storage.prototype.setItem = () => { throw new Error('full') }; null")
        begin(browser, "x")
        assert browser.evaluate("byId('unkept').checkVisibility()")
        browser.press("a")
        assert "rank 1" in browser.evaluate("byId('told').textContent") and browser.errors == []
