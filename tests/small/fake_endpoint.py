"""An OpenAI-compatible server on 127.0.0.1 that answers, or misbehaves, as a script says."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

LOOP = "red, " * 400
PROSE = "Sure! This poster shows a lonely lighthouse at night. I hope this helps."
REFUSAL = "I'm sorry, but I can't help with identifying tags for this image."


class FakeEndpoint:
    """A server to be used in a `with`; each request gets the script's next behaviour, the last one for ever.

    Behaviours, all with status 200 unless another is said:

    - "json": a chat completion of `tags(request)`: {"tags": [...]} where the request has a response_format, else
      the same tags separated by commas; of `says(request)`, where that is given
    - "prose", "refusal", "loop", "empty": a chat completion of that text
    - "429": status 429 with `Retry-After: <retry_after>`; "500": status 500; "400": status 400, whatever is asked
    - "schema rejected": status 400 where the request has a response_format, else as "json"
    - "timeout": nothing is answered for `silence` seconds, then the connection is closed
    - "half": a body that is cut off in its middle; "closed": the connection is closed without an answer
    - "not json": a body of HTML
    - "redirect": status 307 to `/elsewhere` of this server

    What came is in `requests` (the JSON bodies), `headers` (of each, names in lower case) and `paths`;
    `most_at_once` is the greatest number of requests that were open together. `delay` is how many seconds an
    answer takes. Thread-safe.
    """

    def __init__(
        self,
        script: Sequence[str] = ("json",),
        *,
        tags: Callable[[dict], Sequence[str]] = lambda request: ("red", "calm"),
        says: Callable[[dict], str] | None = None,
        delay: float = 0.0,
        silence: float = 5.0,
        retry_after: str = "0",
    ):
        self.script, self.tags, self.says, self.delay = list(script), tags, says, delay
        self.silence, self.retry_after = silence, retry_after
        self.requests: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.most_at_once = 0
        self._open = 0
        self._lock, self._stopping = threading.Lock(), threading.Event()

    def __enter__(self) -> "FakeEndpoint":
        endpoint = self

        class Handler(_Handler):
            fake = endpoint

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """What a settings file gives as `url`."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"


def prompt_of(request: dict) -> str:
    """The text of a request's last message."""
    content = request["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def picture_of(request: dict) -> Image.Image | None:
    """The first picture of a request's last message, decoded; None where there is none."""
    return next(iter(pictures_of(request)), None)


def pictures_of(request: dict) -> list[Image.Image]:
    """The pictures of a request's last message, decoded, in their order."""
    content = request["messages"][-1]["content"]
    urls = [] if isinstance(content, str) else [part["image_url"]["url"] for part in content if "image_url" in part]
    return [Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2]))) for url in urls]


class _Handler(BaseHTTPRequestHandler):
    fake: FakeEndpoint
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        fake, length = self.fake, int(self.headers["Content-Length"])
        request = json.loads(self.rfile.read(length))
        with fake._lock:
            behaviour = fake.script[min(len(fake.requests), len(fake.script) - 1)]
            fake.requests.append(request)
            fake.headers.append({name.lower(): value for name, value in self.headers.items()})
            fake.paths.append(self.path)
            fake._open += 1
            fake.most_at_once = max(fake.most_at_once, fake._open)
        try:
            time.sleep(fake.delay)
            self._behave(behaviour, request)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client gave up
        finally:
            with fake._lock:
                fake._open -= 1

    def _behave(self, behaviour: str, request: dict) -> None:
        formatted = "response_format" in request
        if behaviour == "schema rejected":
            behaviour = "400" if formatted else "json"
        if behaviour == "json" and self.fake.says:
            self._complete(self.fake.says(request))
        elif behaviour == "json":
            tags = list(self.fake.tags(request))
            self._complete(json.dumps({"tags": tags}) if formatted else ", ".join(tags))
        elif behaviour in (texts := {"prose": PROSE, "refusal": REFUSAL, "loop": LOOP, "empty": ""}):
            self._complete(texts[behaviour])
        elif behaviour == "429":
            self._send(429, b'{"error": {"message": "slow down"}}', {"Retry-After": self.fake.retry_after})
        elif behaviour in ("400", "500"):
            self._send(int(behaviour), b'{"error": {"message": "response_format is not supported"}}')
        elif behaviour == "not json":
            self._send(200, b"<html>a proxy's page</html>")
        elif behaviour == "redirect":
            self._send(307, b"", {"Location": "/elsewhere"})
        elif behaviour == "half":
            self._send(200, b'{"choices": [{"message": {"content": "red, c', {"Content-Length": "4000"})
            self.close_connection = True
        elif behaviour in ("closed", "timeout"):
            if behaviour == "timeout":
                self.fake._stopping.wait(self.fake.silence)
            self.close_connection = True
        else:
            raise ValueError(f"a fake endpoint cannot do {behaviour!r}")

    def _complete(self, text: str) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        body = {"id": "chatcmpl-1", "object": "chat.completion", "model": "fake", "choices": [choice]}
        self._send(200, json.dumps(body).encode())

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""
