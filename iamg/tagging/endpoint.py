"""Models behind an OpenAI-compatible server: Ollama, vLLM, LM Studio, llama.cpp, and services that speak as they do."""

import base64
import io
import json
import logging
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .asking import Question
from .endpoint_settings import EndpointSettings

if TYPE_CHECKING:
    from PIL import Image
    from requests import Response, Session

logger = logging.getLogger(__name__)

MOST_TOKENS = 1024  # of an answer, with the thoughts of a model that has some
LONGEST_BODY = 1 << 20  # bytes of a response
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before the second attempt, and before any
JPEG_QUALITY = 90
TRY_AGAIN = (408, 409, 425, 429)  # and all from 500
NOT_UNDERSTOOD = (400, 415, 422)  # what servers say to a response_format that they do not know


class EndpointModel:
    """One model of an endpoint. A request that fails in a way that may pass is tried again, after longer and longer
    waits; ValueError, naming the address, where it fails for good."""

    def __init__(self, settings: EndpointSettings, name: str):
        if find_spec("requests") is None:
            raise ValueError("the endpoint tagger needs requests; run `pip install requests`")
        self.name = self.fingerprint = name
        self.batch_size = settings.concurrency
        self._settings, self._url = settings, settings.url.rstrip("/") + "/chat/completions"
        self._takes_schema = True
        self._stopping = threading.Event()

    def answer(self, questions: Sequence[Question]) -> list[str]:
        import requests

        self._stopping.clear()
        with requests.Session() as session, ThreadPoolExecutor(self._settings.concurrency) as threads:
            futures = [threads.submit(self._ask, session, question) for question in questions]
            try:
                for future in as_completed(futures):
                    future.result()  # raises the first failure
            except BaseException:
                self._stopping.set()  # those that wait for another attempt
                threads.shutdown(wait=False, cancel_futures=True)
                raise
            return [future.result() for future in futures]

    def _ask(self, session: "Session", question: Question) -> str:
        request = self._request(question)
        schema = question.schema or (_tag_list(question.tag_limit) if question.tag_limit else None)
        if self._takes_schema and schema:
            formatted = {**request, "response_format": _only(schema)}
            try:
                return self._complete(session, formatted)
            except NotUnderstood as error:
                answer = self._complete(session, request)
                logger.warning("%s takes no JSON schema (%s); it is asked without", self._url, error)
                self._takes_schema = False
                return answer
        return self._complete(session, request)

    def _request(self, question: Question) -> dict[str, object]:
        content: list[dict[str, object]] = [{"type": "text", "text": question.prompt}]
        for image in question.images:
            content.append({"type": "image_url", "image_url": {"url": _data_url(image)}})
        messages = [{"role": "user", "content": content if question.image else question.prompt}]
        return {"model": self.name, "messages": messages, "temperature": 0, "max_tokens": MOST_TOKENS}

    def _complete(self, session: "Session", request: dict[str, object]) -> str:
        """The answer's text, after as many attempts as the settings allow."""
        import requests

        for attempt in range(1 + self._settings.retries):
            asked_to_wait = 0.0
            try:
                return self._attempt(session, request)
            except Passing as error:
                problem, asked_to_wait = str(error), error.wait
            except requests.Timeout:
                problem = f"it does not answer within {self._settings.timeout:g} s"
            except requests.RequestException as error:
                problem = f"the connection fails ({type(error).__name__})"
            wait = max(asked_to_wait, min(FIRST_WAIT * 2**attempt, LONGEST_WAIT) * random.uniform(0.5, 1.0))
            if attempt == self._settings.retries or wait > LONGEST_WAIT or self._stopping.wait(wait):
                break
        raise ValueError(
            f"the endpoint {self._url} cannot be used: {problem} (attempt {attempt + 1} of {1 + self._settings.retries})"
        )

    def _attempt(self, session: "Session", request: dict[str, object]) -> str:
        deadline = time.monotonic() + self._settings.timeout
        with session.post(
            self._url,
            json=request,
            auth=self._authorise,
            timeout=self._settings.timeout,
            stream=True,
            allow_redirects=False,
        ) as response:
            body = b"".join(_bounded(response, deadline))
        status = response.status_code
        if status in TRY_AGAIN or status >= 500:
            raise Passing(f"it answers {status}{self._said(body)}", _retry_after(response))
        if status in NOT_UNDERSTOOD and "response_format" in request:
            raise NotUnderstood(f"{status}{self._said(body)}")
        if status != 200:
            raise ValueError(
                f"the endpoint {self._url} refuses a request to {self.name!r} with {status}{self._said(body)}; see its "
                "settings"
            )
        try:
            content = json.loads(body)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise Passing("its answer is no chat completion") from None
        return content if isinstance(content, str) else ""

    def _authorise(self, request):
        """Also keeps requests from taking a name and a password from the user's .netrc."""
        if self._settings.key:
            request.headers["Authorization"] = f"Bearer {self._settings.key}"
        return request

    def _said(self, body: bytes) -> str:
        """What the server says of an error, without the key."""
        try:
            error = json.loads(body)["error"]
            text = str(error["message"] if isinstance(error, dict) else error)
        except (ValueError, LookupError, TypeError, RecursionError):
            return ""
        if self._settings.key:
            text = text.replace(self._settings.key, "***")
        return f" ({text[:200]})"


class Passing(Exception):
    """A failure that may pass; the server asked to wait so many seconds."""

    def __init__(self, problem: str, wait: float = 0.0):
        super().__init__(problem)
        self.wait = wait


class NotUnderstood(Exception):
    """The server does not know a part of the request."""


def _bounded(response: "Response", deadline: float) -> Iterator[bytes]:
    size = 0
    for piece in response.iter_content(1 << 14):
        size += len(piece)
        if size > LONGEST_BODY:
            raise Passing(f"its answer is longer than {LONGEST_BODY} bytes")
        if time.monotonic() > deadline:
            raise Passing("its answer takes too long")
        yield piece


def _retry_after(response: "Response") -> float:
    """The seconds that Retry-After asks for, as a number or as a date."""
    value = response.headers.get("Retry-After", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _data_url(image: "Image.Image") -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _tag_list(limit: int) -> dict[str, object]:
    tags = {"type": "array", "items": {"type": "string"}, "maxItems": limit}
    return {"type": "object", "properties": {"tags": tags}, "required": ["tags"], "additionalProperties": False}


def _only(schema: Mapping[str, object]) -> dict[str, object]:
    """A response_format that allows JSON of that schema and nothing else."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
