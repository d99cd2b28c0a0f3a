"""The endpoint's true client against a server that answers, and misbehaves."""

import json
import logging
import socket
import threading
import time

import pytest
from fake_endpoint import FakeEndpoint, picture_of, pictures_of, prompt_of
from PIL import Image

from iamg.scenarios import load_scenarios
from iamg.tagging import IncompleteTags, ItemTags, TaggerModels, make_tagger
from iamg.tagging import endpoint as subject
from iamg.tagging.asking import Question
from iamg.tagging.cache import CachedTagger
from iamg.tagging.endpoint import EndpointModel
from iamg.tagging.endpoint_settings import EndpointSettings, read_endpoint_settings

POSTER = load_scenarios()["movie poster"]
RED = Image.new("RGB", (40, 60), (200, 30, 40))
KEY = "sk-a-secret-key"
ASKED = Question("tags please", RED, 7)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(subject, "FIRST_WAIT", 0.01)


def model(server, **settings) -> EndpointModel:
    return EndpointModel(EndpointSettings(server.url, **{"key": KEY, "timeout": 2.0, **settings}), "llava:7b")


def write(path, **settings):
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    return path


# ---- what is asked


def test_a_picture_a_prompt_and_a_schema_are_sent():
    with FakeEndpoint() as server:
        assert model(server).answer([ASKED]) == ['{"tags": ["red", "calm"]}']
    (request,), (headers,) = server.requests, server.headers
    assert server.paths == ["/v1/chat/completions"] and headers["authorization"] == f"Bearer {KEY}"
    assert (request["model"], request["temperature"]) == ("llava:7b", 0) and request["max_tokens"] > 0
    assert prompt_of(request) == "tags please"
    picture = picture_of(request)
    assert picture.format == "JPEG" and picture.size == RED.size
    assert all(abs(a - b) < 8 for a, b in zip(picture.getpixel((20, 30)), (200, 30, 40), strict=True))
    schema = request["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["tags"] == {"type": "array", "items": {"type": "string"}, "maxItems": 7}


def test_a_text_is_sent_alone_and_free_text_without_a_schema():
    with FakeEndpoint() as server:
        assert model(server, key="").answer([Question("describe it")]) == ["red, calm"]
    (request,) = server.requests
    assert request["messages"] == [{"role": "user", "content": "describe it"}]
    assert "response_format" not in request and "authorization" not in server.headers[0]


def test_several_pictures_are_sent_in_their_order_with_a_schema_of_the_question_s_own():
    schema = {"type": "object", "properties": {"best": {"type": "integer"}}}
    sizes = [(40, 60), (20, 20), (30, 10)]
    first, *more = (Image.new("RGB", size) for size in sizes)
    with FakeEndpoint() as server:
        model(server).answer([Question("which?", first, more_images=tuple(more), schema=schema)])
    (request,) = server.requests
    assert [picture.size for picture in pictures_of(request)] == sizes
    assert request["response_format"]["json_schema"]["schema"] == schema


def test_a_name_and_password_of_the_user_s_netrc_are_not_sent(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password private\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with FakeEndpoint() as server:
        model(server, key="").answer([ASKED])
    assert "authorization" not in server.headers[0]


def test_answers_keep_the_order_and_no_more_are_asked_together_than_allowed():
    with FakeEndpoint(tags=lambda request: [prompt_of(request)], delay=0.03) as server:
        questions = [Question(f"number {n}") for n in range(12)]
        assert model(server, concurrency=3).answer(questions) == [f"number {n}" for n in range(12)]
    assert server.most_at_once == 3


# ---- a server that misbehaves


@pytest.mark.parametrize("trouble", ["429", "500", "timeout", "half", "closed", "not json"])
def test_trouble_that_may_pass_is_waited_out(trouble):
    with FakeEndpoint([trouble, trouble, "json"], silence=3.0) as server:
        assert model(server, timeout=0.5).answer([ASKED]) == ['{"tags": ["red", "calm"]}']
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("429", "it answers 429 .slow down."),
        ("500", "it answers 500"),
        ("timeout", "it does not answer within 0.3 s"),
        ("half", "the connection fails"),
        ("closed", "the connection fails"),
        ("not json", "its answer is no chat completion"),
    ],
)
def test_trouble_that_stays_is_told_after_the_attempts_that_the_settings_allow(trouble, said):
    with FakeEndpoint([trouble], silence=1.0) as server:
        with pytest.raises(ValueError, match=f"{server.url}.* cannot be used: {said}.*attempt 3 of 3") as raised:
            model(server, timeout=0.3, retries=2).answer([ASKED])
    assert len(server.requests) == 3 and KEY not in str(raised.value)


def test_waits_grow_and_differ(monkeypatch):
    monkeypatch.setattr(subject, "FIRST_WAIT", 0.1)
    waits = []
    with FakeEndpoint(["500"]) as server:
        asked = model(server, retries=4)
        monkeypatch.setattr(asked._stopping, "wait", lambda seconds: waits.append(seconds))
        for _ in range(2):
            with pytest.raises(ValueError, match="attempt 5 of 5"):
                asked.answer([ASKED])
    assert all(0.05 * 2**n <= wait <= 0.1 * 2**n for n, wait in enumerate(waits[:4]))
    assert waits[:4] != waits[4:]


@pytest.mark.parametrize("date", [False, True])
def test_the_server_s_own_wait_is_honoured(monkeypatch, date):
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 21)) if date else "20"
    waits = []
    with FakeEndpoint(["429", "json"], retry_after=later) as server:
        asked = model(server)
        monkeypatch.setattr(asked._stopping, "wait", lambda seconds: waits.append(seconds))
        asked.answer([ASKED])
    assert len(waits) == 1 and 15 <= waits[0] <= 21


def test_a_wait_of_hours_is_not_waited():
    with FakeEndpoint(["429"], retry_after="7200") as server:
        with pytest.raises(ValueError, match="it answers 429.*attempt 1 of 5"):
            model(server).answer([ASKED])


@pytest.mark.parametrize("broken", ["soon", "-5", "nan", "\xb2", "Mon, 99 Foo 9999"])
def test_a_retry_after_that_is_nonsense_breaks_nothing(broken):
    with FakeEndpoint(["429", "json"], retry_after=broken) as server:
        assert model(server).answer([ASKED])


def test_a_server_that_takes_no_schema_is_asked_without_from_then_on(caplog):
    with FakeEndpoint(["schema rejected"]) as server:
        asked = model(server)
        assert asked.answer([ASKED]) == asked.answer([ASKED]) == ["red, calm"]
    assert ["response_format" in request for request in server.requests] == [True, False, False]
    assert "takes no JSON schema" in caplog.text


def test_a_request_that_is_refused_for_another_reason_is_not_repeated():
    with FakeEndpoint(["400"]) as server:
        with pytest.raises(ValueError, match="refuses a request to 'llava:7b' with 400 .response_format is not"):
            model(server).answer([ASKED])
    assert len(server.requests) == 2


def test_the_key_is_not_carried_to_where_a_server_redirects():
    with FakeEndpoint(["redirect"]) as server:
        with pytest.raises(ValueError, match="refuses a request.*307"):
            model(server).answer([ASKED])
    assert server.paths == ["/v1/chat/completions"]


def test_an_answer_that_never_ends_is_cut_off(monkeypatch):
    monkeypatch.setattr(subject, "LONGEST_BODY", 1000)
    with FakeEndpoint(["loop"]) as server:
        with pytest.raises(ValueError, match="longer than 1000 bytes"):
            model(server, retries=0).answer([ASKED])


def test_an_answer_that_drips_is_not_waited_for():
    """Each byte comes in time, all of them never would."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                try:
                    for _ in range(200):
                        connection.sendall(b" " * 600)
                        time.sleep(0.05)
                except OSError:
                    pass

        threading.Thread(target=drip, daemon=True).start()
        settings = EndpointSettings(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", timeout=0.4, retries=0)
        start = time.monotonic()
        with pytest.raises(ValueError, match="takes too long"):
            EndpointModel(settings, "m").answer([Question("a")])
        assert time.monotonic() - start < 5


def test_nobody_there_is_told():
    with pytest.raises(ValueError, match="127.0.0.1:9/v1.*the connection fails"):
        EndpointModel(EndpointSettings("http://127.0.0.1:9/v1", retries=1), "m").answer([ASKED])


def test_when_one_fails_the_others_do_not_go_on_trying(monkeypatch):
    monkeypatch.setattr(subject, "FIRST_WAIT", 30.0)
    with FakeEndpoint(["500", "500", "400", "500"]) as server:
        start = time.monotonic()
        with pytest.raises(ValueError, match="400"):
            model(server, concurrency=3).answer([Question("a")] * 8)
        assert time.monotonic() - start < 10
    assert len(server.requests) < 8


# ---- tags


def colours(request) -> list[str]:
    picture = picture_of(request)
    return ["text tag"] if picture is None else ["red" if picture.getpixel((5, 5))[0] > 100 else "black"]


def test_items_are_tagged_whatever_the_server_says(tmp_path):
    with FakeEndpoint(["json", "refusal", "json", "half", "json", "loop", "json"], tags=colours) as server:
        path = write(tmp_path / "endpoint.toml", url=server.url, key=KEY, concurrency=1, vision_model="v")
        tagger = make_tagger("endpoint", TaggerModels(endpoint=path))
        pictures = [RED, Image.new("RGB", (20, 20)), RED, RED]
        assert [item.image for item in tagger.tag(pictures, [None] * 4, POSTER)] == [
            ("red",),
            ("black",),
            ("red",),
            ("red",),
        ]
    assert {request["model"] for request in server.requests} == {"v"}


def test_a_failing_server_loses_no_answer_and_the_rerun_asks_what_is_missing(tmp_path):
    texts = [f"text {n}" for n in range(6)]
    with FakeEndpoint(["json"] * 3 + ["500"] * 3 + ["json"], tags=lambda request: [prompt_of(request)[:6]]) as server:
        path = write(tmp_path / "e.toml", url=server.url, concurrency=1, retries=2, language_model="l")
        tagger = CachedTagger(make_tagger("endpoint", TaggerModels(endpoint=path)), tmp_path / "tags")
        with pytest.raises(IncompleteTags, match="answers 500") as raised:
            tagger.tag([None] * 6, texts, POSTER)
        assert raised.value.tags == {n: ItemTags((), (f"text {n}",)) for n in range(3)}
        assert tagger.tag([None] * 6, texts, POSTER) == [ItemTags((), (f"text {n}",)) for n in range(6)]
    assert [prompt_of(request)[:6] for request in server.requests] == [
        *texts[:3], texts[3], texts[3], texts[3], *texts[3:]
    ]  # fmt: skip


def test_models_are_named_by_the_settings_or_the_command_line(tmp_path):
    with FakeEndpoint(tags=colours) as server:
        path = write(tmp_path / "e.toml", url=server.url, vision_model="v", language_model="l")
        for models in (TaggerModels(endpoint=path), TaggerModels(endpoint=path, vision="own")):
            tagger = make_tagger("endpoint + keywords", models)
            (tags,) = tagger.tag([RED], ["Genres: western."], POSTER)
            assert tags == ItemTags(("red",), ("text tag", "western"))
    assert [request["model"] for request in server.requests] == ["v", "l", "own", "l"]


def test_the_key_and_the_address_are_nowhere_but_in_the_request(tmp_path, caplog):
    with (
        FakeEndpoint(["500", "schema rejected", "refusal", "400"], tags=colours) as server,
        caplog.at_level(logging.DEBUG),
    ):
        path = write(tmp_path / "e.toml", url=server.url, key=KEY, vision_model="v", retries=1)
        tagger = make_tagger("endpoint", TaggerModels(endpoint=path))
        with pytest.raises(IncompleteTags) as raised:
            CachedTagger(tagger, tmp_path / "tags").tag([RED] * 4, [None] * 4, POSTER)
    kept = json.dumps([tagger.name, tagger.parameters])
    for text in (caplog.text, kept, repr(raised.value), repr(tagger.vision.__dict__), str(raised.value.__cause__)):
        assert KEY not in text
    assert tagger.parameters == {"version": 1, "vision": "v"}
    assert KEY.encode() not in (tmp_path / "tags").read_bytes() and server.url not in kept


def test_a_server_that_repeats_the_key_does_not_put_it_into_the_message():
    settings = EndpointSettings("http://127.0.0.1:9/v1", key=KEY)
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode()
    assert EndpointModel(settings, "m")._said(body) == " (Incorrect API key provided: ***)"


# ---- settings


def test_settings_of_the_environment_and_of_a_file(tmp_path):
    environment = {
        "IAMG_ENDPOINT_URL": "https://example.org/v1",
        "IAMG_ENDPOINT_KEY": KEY,
        "IAMG_ENDPOINT_VISION_MODEL": "v",
        "IAMG_ENDPOINT_LANGUAGE_MODEL": "l",
        "MY_KEY": "other",
    }
    assert read_endpoint_settings(None, environment) == EndpointSettings("https://example.org/v1", KEY, "v", "l")
    path = write(tmp_path / "a", url="http://h:1/v1", key_env="MY_KEY", concurrency=2, timeout=3, retries=0)
    assert read_endpoint_settings(path, environment) == EndpointSettings("http://h:1/v1", "other", "", "", 2, 3, 0)
    assert KEY not in repr(read_endpoint_settings(None, environment))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "does not say where the endpoint is; add a line"),
        ({"url": "http://h/v1", "adress": "x"}, "has adress; endpoint settings are url, key"),
        ({"url": "file:///etc/passwd"}, r"must be http\(s\)"),
        ({"url": f"http://me:{KEY}@h/v1"}, r"must be http\(s\)"),
        ({"url": f"http://h/v1?key={KEY}"}, r"must be http\(s\)"),
        ({"url": 5}, "url of .* must be str, got int"),
        ({"url": "http://h/v1", "concurrency": 0}, "concurrency must be 1 or more"),
        ({"url": "http://h/v1", "concurrency": "4"}, "concurrency of .* must be int, got str"),
        ({"url": "http://h/v1", "timeout": -1}, "timeout above 0"),
        ({"url": "http://h/v1", "key": f"{KEY}\r\nX-Other: 1"}, "key of .* has characters that no key has"),
        ({"url": "http://h/v1", "key_env": "NOT_SET"}, "the variable NOT_SET, which is not set"),
    ],
)
def test_settings_that_cannot_be_used_are_named_without_the_key(tmp_path, settings, said):
    path = write(tmp_path / "endpoint.toml", **settings)
    with pytest.raises(ValueError, match=said) as raised:
        read_endpoint_settings(path, {})
    assert "endpoint.toml" in str(raised.value) and KEY not in str(raised.value)


def test_missing_settings_say_what_to_write(tmp_path):
    with pytest.raises(
        ValueError, match="the environment does not say.*set IAMG_ENDPOINT_URL, or give a settings file"
    ):
        read_endpoint_settings(None, {})
    with pytest.raises(FileNotFoundError, match="do not exist; write that file"):
        read_endpoint_settings(tmp_path / "missing.toml", {})
    (tmp_path / "broken.toml").write_text("url = ")
    with pytest.raises(ValueError, match="broken.toml are not TOML"):
        read_endpoint_settings(tmp_path / "broken.toml", {})
