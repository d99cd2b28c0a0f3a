"""A ComfyUI server: started for a while or attached to, fed with prompts over its HTTP API."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

START_LIMIT = 180  # seconds
LOG_TAIL = 15  # lines shown when the server fails
HISTORY_LIMIT = 30  # seconds: the history appears slightly after the last message

OnProgress = Callable[[str, int, int], None]  # node id, step, steps


class ComfyServer:
    """A running ComfyUI at `url`."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")

    def available(self, node: str, field: str) -> list[str]:
        """What a node's combo offers; ValueError where the server has no such node."""
        try:
            info = self._get(f"/object_info/{node}")[node]["input"]
        except KeyError:
            raise ValueError(
                f"the ComfyUI at {self.url} has no node {node}; link this pack into its custom_nodes/ and restart it"
            ) from None
        kind, *options = {**info.get("required", {}), **info.get("optional", {})}[field]
        return kind if isinstance(kind, list) else options[0]["options"]

    def upload(self, file: Path, subfolder: str, name: str | None = None) -> None:
        """Put a file into ComfyUI's input/<subfolder>/, over one of that name (default: the file's own)."""
        boundary = uuid.uuid4().hex
        fields = {"type": "input", "subfolder": subfolder, "overwrite": "true"}
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        ]
        name = (name or file.name).replace('"', "%22")
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
        body = b"".join([*parts, head.encode(), file.read_bytes(), f"\r\n--{boundary}--\r\n".encode()])
        self._call("/upload/image", body, f"multipart/form-data; boundary={boundary}")

    def run(self, prompt: dict, on_progress: OnProgress) -> dict[str, dict]:
        """Queue an API prompt and wait for it: the outputs of every node that shows something, by node id.

        Raises RuntimeError with ComfyUI's own words when it refuses the prompt or a node fails.
        """
        from websocket import WebSocketException, create_connection

        client = uuid.uuid4().hex
        address = "ws" + self.url.removeprefix("http") + f"/ws?clientId={client}"
        with closing(create_connection(address, timeout=60)) as messages:
            messages.settimeout(None)  # a node may work for long without a word
            queued = self._post("/prompt", {"prompt": prompt, "client_id": client})
            if queued["node_errors"]:  # answered with 200 where only some outputs are invalid
                raise RuntimeError(f"ComfyUI refused the workflow: {_refusal(queued, prompt)}")
            try:
                while not self._finished(messages.recv(), queued["prompt_id"], on_progress):
                    pass
            except (WebSocketException, ConnectionError) as error:
                raise RuntimeError(f"the connection to ComfyUI at {self.url} broke: {error}") from None
        return self._outputs(queued["prompt_id"])

    def picture(self, shown: dict) -> bytes:
        """The file of an entry of a node's `images`."""
        query = urllib.parse.urlencode({key: shown[key] for key in ("filename", "subfolder", "type")})
        return self._call(f"/view?{query}")

    def _finished(self, message: str | bytes, prompt_id: str, on_progress: OnProgress) -> bool:
        if isinstance(message, bytes):  # a preview picture
            return False
        kind, data = (content := json.loads(message))["type"], content["data"]
        if data.get("prompt_id") != prompt_id:
            return False
        if kind == "progress":
            on_progress(data["node"], data["value"], data["max"])
        if kind == "execution_error":
            raise RuntimeError(f"{data['node_type']} failed: {data['exception_message'].strip()}")
        if kind == "execution_interrupted":
            raise RuntimeError("the run was interrupted in ComfyUI")
        return kind == "execution_success"

    def _outputs(self, prompt_id: str) -> dict[str, dict]:
        deadline = time.monotonic() + HISTORY_LIMIT
        while time.monotonic() < deadline:
            if entry := self._get(f"/history/{prompt_id}").get(prompt_id):
                return entry["outputs"]
            time.sleep(0.1)
        raise RuntimeError(f"ComfyUI finished run {prompt_id}, but its history does not show it")

    def _get(self, path: str) -> dict:
        return json.loads(self._call(path))

    def _post(self, path: str, content: dict) -> dict:
        try:
            return json.loads(self._call(path, json.dumps(content).encode(), "application/json"))
        except urllib.error.HTTPError as error:
            refused = json.loads(error.read())
            raise RuntimeError(f"ComfyUI refused the workflow: {_refusal(refused, content['prompt'])}") from None

    def _call(self, path: str, body: bytes | None = None, content_type: str = "") -> bytes:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": content_type} if body else {})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()


def attach(url: str) -> ComfyServer:
    """The ComfyUI that runs at `url`; ValueError when none answers."""
    server = ComfyServer(url)
    try:
        server._get("/system_stats")
    except (OSError, ValueError) as error:
        raise ValueError(f"no ComfyUI answers at {url} ({error}); start it, or leave --server out") from None
    return server


@contextmanager
def started(comfyui: Path, base: Path, log: Path, cpu: bool) -> Iterator[ComfyServer]:
    """A ComfyUI of its own on a free port, with `base` as its base directory; stopped at the end, whatever happens.

    Raises RuntimeError with the end of its log when it does not come up.
    """
    port = _free_port()
    command = [
        sys.executable,
        "-u",
        str(comfyui / "main.py"),
        "--port",
        str(port),
        "--disable-auto-launch",
        "--disable-api-nodes",
    ]
    command += ["--base-directory", str(base), "--database-url", f"sqlite:///{base / 'comfyui.db'}"]
    command += ["--cpu"] if cpu else []
    with open(log, "wb") as lines:
        process = subprocess.Popen(command, cwd=comfyui, stdin=subprocess.DEVNULL, stdout=lines, stderr=lines)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that `finally` runs
    try:
        server = ComfyServer(f"http://127.0.0.1:{port}")
        _wait_until_ready(server, process, log)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        signal.signal(signal.SIGTERM, before)


def _wait_until_ready(server: ComfyServer, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"ComfyUI stopped with status {process.returncode}; the end of {log}:\n{_tail(log)}")
        try:
            server._get("/system_stats")
            return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"ComfyUI was not ready within {START_LIMIT} s; the end of {log}:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _refusal(answer: dict, prompt: dict) -> str:
    """What ComfyUI found wrong with a prompt, in one line."""
    found = []
    for node_id, problem in (answer.get("node_errors") or {}).items():
        for error in problem["errors"]:
            found.append(f"{prompt[node_id]['class_type']}: {error['message']} ({error['details']})")
    error = answer.get("error")
    return "; ".join(found) or (error["message"] if isinstance(error, dict) else str(error))
