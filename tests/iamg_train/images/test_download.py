"""Downloads from a server on 127.0.0.1, which stands for the open internet here."""

import json
import shutil
import socket
import subprocess
import time
from email.utils import formatdate

import pyarrow
import pytest
from picture_server import PictureServer, picture_bytes
from PIL import Image
from pyarrow import parquet

from iamg_train.images.addresses import is_public
from iamg_train.images.catalogue import named_pictures
from iamg_train.images.download import FAILURES, download
from iamg_train.images.manners import LONGEST_WAIT, Manners

QUICK = Manners(rate=1000, back_off=0.001, retries=2, timeout=5)
JPEG = picture_bytes()


def here(address):
    return address == "127.0.0.1"


@pytest.fixture
def serve():
    """Starts servers that answer by path: {"/a.jpg": (200, {}, bytes)}, or a function of (path, times)."""
    running = []

    def start(answers, host="127.0.0.1"):
        answer = answers if callable(answers) else lambda path, _: answers.get(path, (404, {}, b""))
        running.append(PictureServer(answer, host).__enter__())
        return running[-1]

    yield start
    for server in running:
        server.__exit__()


@pytest.fixture
def get(tmp_path):
    """Downloads a catalogue of {file_name: address}; gives {file_name: (reason, permanent)} of what failed."""

    def run(named, manners=QUICK, max_bytes=10_000_000, allowed=here, **options):
        rows = [{"file_name": name, "image_url": address} for name, address in named.items()]
        (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        pictures = list(named_pictures(tmp_path, "image_url", lambda *problem: pytest.fail(str(problem))))
        failures = download(tmp_path, pictures, manners, max_bytes, allowed=allowed, **options)
        logged = tmp_path / FAILURES
        rows = [json.loads(line) for line in logged.read_text().splitlines()] if logged.exists() else []
        assert rows == [vars(failure) for failure in failures]
        assert not list(tmp_path.rglob("*.part"))
        return {failure.file_name: (failure.reason, failure.permanent) for failure in failures}

    return run


def test_pictures_are_kept_as_the_type_that_their_name_says(tmp_path, serve, get):
    kinds = {"a.jpg": "JPEG", "b.jpg": "PNG", "c.png": "WEBP", "d.webp": "GIF", "e.jpeg": "BMP"}
    server = serve({f"/{name}": (200, {"Content-Type": "text/html"}, picture_bytes(kinds[name])) for name in kinds})
    assert get({f"images/{name}": f"{server.url}/{name}" for name in kinds}) == {}
    for name, kind in {"a.jpg": "JPEG", "b.jpg": "JPEG", "c.png": "PNG", "d.webp": "WEBP", "e.jpeg": "JPEG"}.items():
        with Image.open(tmp_path / "images" / name) as picture:
            assert (picture.format, picture.size) == (kind, (24, 36))
            assert (
                max(abs(a - b) for a, b in zip(picture.convert("RGB").getpixel((5, 5)), (0, 128, 128), strict=True)) < 6
            )
    assert (tmp_path / "images" / "a.jpg").read_bytes() == JPEG
    assert all("iamg-train" in headers["User-Agent"] for headers in server.headers)


def test_what_is_there_or_failed_for_good_is_not_asked_for_again(serve, get):
    answers = {"/a": (200, {}, JPEG), "/gone": (404, {}, b""), "/later": (503, {}, b""), "/page": (200, {}, b"<html>")}
    server = serve(answers)
    named = {f"{name[1:]}.jpg": server.url + name for name in answers}
    failed = {
        "gone.jpg": ("HTTP 404", True),
        "later.jpg": ("HTTP 503", False),
        "page.jpg": ("no picture that can be read", True),
    }
    assert get(named) == failed
    assert server.asked == {"/a": 1, "/gone": 1, "/later": 3, "/page": 1}
    answers |= {"/later": (200, {}, JPEG), "/gone": (200, {}, JPEG)}
    del failed["later.jpg"]
    assert get(named) == failed
    assert server.asked == {"/a": 1, "/gone": 1, "/later": 4, "/page": 1}
    assert get({**named, "gone.jpg": server.url + "/a"}) == {"page.jpg": failed["page.jpg"]}  # another address
    (answers["/page"]) = (200, {}, JPEG)
    assert get(named, retry_failed=True) == {}
    assert server.asked == {"/a": 2, "/gone": 1, "/later": 4, "/page": 2}


def test_a_failure_that_passes_is_tried_again(serve, get):
    def answer(path, times):
        first = {"/busy": (503, {}, b""), "/half": (200, {"Content-Length": "9999"}, JPEG), "/many": (429, {}, b"")}
        return first[path] if times == 1 else (200, {}, JPEG)

    server = serve(answer)
    assert get({f"{name}.jpg": f"{server.url}/{name}" for name in ("busy", "half", "many")}) == {}
    assert set(server.asked.values()) == {2}


@pytest.mark.parametrize("announced", [True, False])
def test_a_picture_over_the_limit_is_refused(tmp_path, serve, get, announced):
    """By what the server says before it sends anything, or by what it sends."""
    answer = ({"Content-Length": "300001"}, bytes(1000)) if announced else ({}, bytes(300_001))
    server = serve(lambda path, times: (200, *answer))
    assert get({"a.jpg": f"{server.url}/a"}, max_bytes=300_000) == {"a.jpg": ("larger than 300000 bytes", True)}
    assert not (tmp_path / "a.jpg").exists()


def test_a_picture_of_unknown_size_is_cut_off_at_the_limit(serve, get):
    """An endless answer without Content-Length: what the server could send says where it was cut off."""
    sent = []

    def body():
        while len(sent) < 3000:
            sent.append(100_000)
            yield bytes(100_000)

    server = serve(lambda path, times: (200, {}, body()))
    assert get({"a.jpg": f"{server.url}/a"}, max_bytes=1_000_000) == {"a.jpg": ("larger than 1000000 bytes", True)}
    assert sum(sent) < 100_000_000  # what the limit lets through, and what the sockets hold


def test_every_address_that_is_not_public_is_refused_before_a_request(serve, get):
    server = serve(lambda path, times: (200, {}, JPEG), host="")
    hosts = ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0.0.0.0", "[::ffff:127.0.0.1]", "[::1]")
    named = {f"{number}.jpg": f"http://{host}:{server.port}/" for number, host in enumerate(hosts)}
    reasons = get(named, allowed=is_public)
    assert reasons.keys() == named.keys()
    assert set(reasons.values()) == {("its address is not public", True), ("no http or https address", True)}
    assert not server.asked


def test_a_redirect_is_followed_to_allowed_addresses_only(serve, get):
    server = serve(
        lambda path, times: {
            "/fine": (302, {"Location": "/picture"}, b""),
            "/picture": (200, {}, JPEG),
            "/inside": (302, {"Location": f"http://127.0.0.2:{server.port}/secret"}, b""),
            "/metadata": (307, {"Location": "http://169.254.169.254/latest/meta-data/"}, b""),
            "/file": (301, {"Location": "file:///etc/passwd"}, b""),
            "/round": (308, {"Location": "/round"}, b""),
            "/nowhere": (302, {}, b""),
        }[path],
        host="",
    )
    names = ("fine", "inside", "metadata", "file", "round", "nowhere")
    assert get({f"{name}.jpg": f"{server.url}/{name}" for name in names}) == {
        "inside.jpg": ("its address is not public", True),
        "metadata.jpg": ("its address is not public", True),
        "file.jpg": ("no http or https address", True),
        "round.jpg": ("more than 5 redirects", True),
        "nowhere.jpg": ("HTTP 302", True),
    }
    assert server.asked["/secret"] == 0 and server.asked["/round"] == 6


def test_a_name_that_changes_its_address_after_a_check_reaches_nothing(serve, get, monkeypatch):
    """DNS rebinding: every answer of the name server is another one."""
    server = serve(lambda path, times: (200, {}, JPEG), host="")
    answers = ["127.0.0.1", "127.0.0.2", "127.0.0.2"]
    real = socket.getaddrinfo

    def rebinding(host, port, *rest, **options):
        if host == "films.example":
            host = answers.pop(0)
        return real(host, port, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert get({"a.jpg": f"http://films.example:{server.port}/a"}) == {}
    assert get({"b.jpg": f"http://films.example:{server.port}/b"}) == {"b.jpg": ("its address is not public", True)}
    assert server.asked == {"/a": 1} and answers == ["127.0.0.2"]


@pytest.mark.parametrize(
    "address",
    ["ftp://127.0.0.1/a", "file:///etc/passwd", "//127.0.0.1/a", "data:image/png;base64,AAAA", "http://", "?"],
)
def test_only_http_is_spoken(get, address):
    assert get({"a.jpg": address}) == {"a.jpg": ("no http or https address", True)}


@pytest.mark.parametrize("address", ["http://127.0.0.1:99999/a", "http://127.0.0.1:x/", "http://[::1", "http://127.1/"])
def test_a_malformed_address_is_a_failure_and_no_crash(get, address):
    assert get({"a.jpg": address}) == {"a.jpg": ("no http or https address", True)}


def test_a_host_is_asked_no_faster_than_its_rate(serve, get):
    server = serve(lambda path, times: (200, {}, JPEG))
    started = time.monotonic()
    assert get({f"{n}.jpg": f"{server.url}/{n}" for n in range(8)}, Manners(rate=10)) == {}
    assert time.monotonic() - started >= 0.7


@pytest.mark.parametrize("certified", [True, False])
def test_a_host_that_cannot_prove_its_name_gives_no_picture(tmp_path, serve, get, certified):
    """An https address of a server with a certificate of its own making, and of one that speaks no TLS."""
    server = serve({"/a": (200, {}, JPEG)})
    if certified:
        if not shutil.which("openssl"):
            pytest.skip("openssl, which makes the certificate, is not on this machine")
        command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -keyout key.pem -out cert.pem"
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
        server.encrypt(tmp_path / "cert.pem", tmp_path / "key.pem")
    failed = get({"a.jpg": f"https://127.0.0.1:{server.port}/a"}, Manners(rate=1000, retries=0))
    assert failed == {"a.jpg": ("no connection", False)} and not server.asked


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_waited_for(serve, get, form):
    def answer(path, times):
        asked_at.append(time.time())
        wait = "1" if form == "seconds" else formatdate(asked_at[0] + 2, usegmt=True)  # whole seconds, rounded down
        return (429, {"Retry-After": wait}, b"") if times == 1 else (200, {}, JPEG)

    asked_at = []
    server = serve(answer)
    assert get({"a.jpg": f"{server.url}/a"}) == {}
    assert asked_at[1] - asked_at[0] >= 0.9


def test_a_host_that_wants_a_long_rest_is_left_alone_for_this_run(serve, get):
    server = serve(lambda path, times: (503, {"Retry-After": str(LONGEST_WAIT + 1)[:3]}, b""))
    failed = get({f"{n}.jpg": f"{server.url}/{n}" for n in range(20)}, Manners(rate=1000, per_host=1, back_off=0.001))
    assert len(failed) == 20 and not any(permanent for _, permanent in failed.values())
    assert sum(server.asked.values()) == 1


def test_a_dead_host_does_not_hold_up_the_others(serve, get):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://localhost:{closed.getsockname()[1]}"
        server = serve(lambda path, times: (200, {}, JPEG))
        named = {f"dead{n}.jpg": f"{dead}/{n}" for n in range(40)} | {"a.jpg": f"{server.url}/a"}
        failed = get(named, allowed=lambda address: True)
    assert len(failed) == 40 and "a.jpg" not in failed
    reasons = {reason for reason, _ in failed.values()}
    assert reasons == {"no connection", "its host gave no answer for 5 pictures in a row"}


def test_a_full_disk_stops_everything_with_its_own_message(tmp_path, serve, get, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    server = serve(lambda path, times: (200, {}, JPEG))
    monkeypatch.setattr("iamg_train.images.download.keep_picture", full)
    with pytest.raises(OSError, match="No space left"):
        get({"a.jpg": f"{server.url}/a"})
    assert not list(tmp_path.rglob("*.part"))


def test_links_in_the_folder_are_not_written_through(tmp_path, serve, get):
    server, outside = serve(lambda path, times: (200, {}, JPEG)), tmp_path.parent / "outside.txt"
    outside.write_text("mine")
    (tmp_path / "a.jpg.part").symlink_to(outside)
    assert get({"a.jpg": f"{server.url}/1"}) == {}
    (tmp_path / FAILURES).symlink_to(outside)
    with pytest.raises(ValueError, match="leads out of"):
        get({"b.jpg": f"{server.url}/2"})
    assert outside.read_text() == "mine"


def test_names_that_get_in_each_others_way_are_failures_and_no_crash(tmp_path, serve, get):
    server = serve(lambda path, times: (200, {}, JPEG))
    (tmp_path / "b.jpg").mkdir()
    named = {"a.jpg": f"{server.url}/1", "b.jpg": f"{server.url}/2", "a.jpg/c.jpg": f"{server.url}/3"}
    assert get(named, Manners(rate=1000, per_host=1)) == {
        name: ("its file's place is taken", True) for name in ("b.jpg", "a.jpg/c.jpg")
    }


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"file_name": "../a.jpg", "image_url": "http://a/"}, "leads out of"),
        ({"file_name": "/tmp/a.jpg", "image_url": "http://a/"}, "leads out of"),
        ({"file_name": "metadata.jsonl", "image_url": "http://a/"}, "must end in"),
        ({"file_name": "interactions.csv", "image_url": "http://a/"}, "must end in"),
        ({"file_name": "run.sh", "image_url": "http://a/"}, "must end in"),
        ({"file_name": f"{'x' * 300}.jpg", "image_url": "http://a/"}, "more than 250 bytes"),
        ({"image_url": "http://a/"}, "names no picture"),
        ({"file_name": "b.jpg"}, "names no address"),
        ({"file_name": "b.jpg", "image_url": ["http://a/"]}, "image_url is a list"),
        ({"file_name": "./first.jpg", "image_url": "http://a/"}, "named by a row before it"),
    ],
)
def test_a_row_that_no_picture_can_be_written_for_is_named(tmp_path, row, reason):
    rows = [{"file_name": "first.jpg", "image_url": "http://a/"}, row]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems = []
    named = list(named_pictures(tmp_path, "image_url", lambda place, why: problems.append((place, why))))
    assert [picture.file_name for picture in named] == ["first.jpg"]
    ((place, why),) = problems
    assert place == "metadata.jsonl, row 2" and reason in why


def test_addresses_are_read_from_any_column_of_a_table(tmp_path):
    row = {"file_name": "a.jpg", "poster": "http://films.example/a", "n": 1}
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "metadata.parquet")
    (from_parquet,) = named_pictures(tmp_path, "poster", pytest.fail)
    (tmp_path / "metadata.parquet").unlink()
    (tmp_path / "metadata.csv").write_text("n,poster,file_name\n1,http://films.example/a,a.jpg\n")
    (from_csv,) = named_pictures(tmp_path, "poster", pytest.fail)
    assert from_parquet == from_csv and from_csv.address == "http://films.example/a"
    with pytest.raises(FileNotFoundError, match="metadata.jsonl"):
        list(named_pictures(tmp_path / "empty", "poster", pytest.fail))
