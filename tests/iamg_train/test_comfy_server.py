"""ComfyUI started as a process of its own: errors show its log, and it never outlives its user."""

import os
import urllib.request

import pytest

from iamg_train import comfy_server

SERVES = """
import sys, http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
port = int(sys.argv[sys.argv.index("--port") + 1])
open("pid", "w").write(str(__import__("os").getpid()))
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""


def start(tmp_path, main: str):
    (tmp_path / "main.py").write_text(main)
    return comfy_server.started(tmp_path, tmp_path, tmp_path / "comfyui.log", cpu=True)


def test_a_server_that_does_not_come_up_shows_the_end_of_its_log(tmp_path):
    with pytest.raises(RuntimeError, match=r"status 3.*comfyui.log:\n(.*\n)*no module named flux"):
        with start(tmp_path, "import sys; print('no module named flux'); sys.exit(3)"):
            pass


def test_the_server_is_stopped_even_when_its_user_fails(tmp_path):
    with pytest.raises(KeyError):
        with start(tmp_path, SERVES) as server:
            assert urllib.request.urlopen(server.url).status == 200
            raise KeyError("a bug")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_node_that_the_server_lacks_is_named(tmp_path):
    with start(tmp_path, SERVES) as server:
        with pytest.raises(ValueError, match="has no node IAMGAdapterLoader; link this pack"):
            server.available("IAMGAdapterLoader", "adapter")


def test_attaching_to_nothing_is_an_error_with_the_address():
    with pytest.raises(ValueError, match="no ComfyUI answers at http://127.0.0.1:9"):
        comfy_server.attach("http://127.0.0.1:9")
