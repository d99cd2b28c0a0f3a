"""A web server on 127.0.0.1 that answers with what a test tells it, and counts what it is asked."""

import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

from PIL import Image

Answer = tuple[int, Mapping[str, str], bytes | Iterable[bytes]]


def picture_bytes(kind: str = "JPEG", colour: object = "teal", size: tuple[int, int] = (24, 36)) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


class PictureServer:
    """`answer(path, times)` gives status, headers and body; `times` counts the requests for that path, from 1.

    A body in parts is sent without its length.
    """

    def __init__(self, answer: Callable[[str, int], Answer], host: str = "127.0.0.1"):
        self.asked: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.asked[self.path] += 1
                server.headers.append(dict(self.headers))
                status, headers, body = answer(self.path, server.asked[self.path])
                self.send_response(status)
                length = {"Content-Length": str(len(body))} if isinstance(body, bytes) else {}
                for name, value in {**length, **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(ConnectionError):
                    for part in [body] if isinstance(body, bytes) else body:
                        self.wfile.write(part)
                self.close_connection = not length or "Content-Length" in headers

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def encrypt(self, certificate: Path, key: Path) -> None:
        """Speak TLS from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> "PictureServer":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
