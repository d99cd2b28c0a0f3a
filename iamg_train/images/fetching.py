"""One picture from its address into a file, or the reason why not."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp
from yarl import URL

from iamg_train.images.addresses import ForbiddenAddress, checked_socket
from iamg_train.images.manners import Host, Manners

USER_AGENT = "iamg-train (+https://github.com/comfyui-iamg/ComfyUI-IAMG)"
REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 5
FOR_NOW = (408, 425, 429, 500, 502, 503, 504)  # the same question may be answered otherwise a little later
CHUNK = 65536
SLOWEST = 10  # times the timeout, for a whole picture


class NotFetched(Exception):
    """`reason` is short, for counting; `permanent`: asking again would give the same answer."""

    def __init__(self, reason: str, detail: str = "", *, permanent: bool = True):
        super().__init__(reason)
        self.reason, self.detail, self.permanent = reason, detail, permanent


class Fetcher:
    def __init__(self, session: aiohttp.ClientSession, manners: Manners, max_bytes: int):
        self._session, self._manners, self._max_bytes = session, manners, max_bytes
        self._connections = asyncio.Semaphore(manners.connections)
        self._hosts: dict[str, Host] = defaultdict(lambda: Host(manners.rate))

    async def fetch(self, address: str, path: Path) -> None:
        """Writes what is at the address, at most `max_bytes`, with retries; NotFetched says why it is not there."""
        host = self._hosts[host_of(address)]
        for wait in (*(self._manners.back_off * 2**n for n in range(self._manners.retries)), None):
            if host.given_up:
                raise NotFetched(host.given_up, permanent=False)
            try:
                await self._follow(_url(address), path)
            except NotFetched as error:
                if not error.permanent and wait is not None:
                    await asyncio.sleep(wait * random.uniform(0.5, 1.5))
                    continue
                (host.answered if error.permanent else host.gave_no_answer)()
                raise
            host.answered()
            return

    async def _follow(self, url: URL, path: Path) -> None:
        """Redirects are followed here, so that every host on the way has its turn and its address checked."""
        for _ in range(MAX_REDIRECTS + 1):
            await self._hosts[url.host].turn()
            async with self._connections:
                target = await self._request(url, path)
            if target is None:
                return
            url = target
        raise NotFetched(f"more than {MAX_REDIRECTS} redirects")

    async def _request(self, url: URL, path: Path) -> URL | None:
        """Where the answer redirects to; None when the file is written."""
        with _named_problems():
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status in REDIRECTS and "Location" in response.headers:
                    return _url(response.headers["Location"], base=url)
                if response.status in FOR_NOW:
                    self._hosts[url.host].leave_alone(_retry_after(response.headers.get("Retry-After", "")))
                if response.status != 200:
                    raise NotFetched(f"HTTP {response.status}", permanent=response.status not in FOR_NOW)
                await self._write(response, path)
        return None

    async def _write(self, response: aiohttp.ClientResponse, path: Path) -> None:
        too_large = NotFetched(f"larger than {self._max_bytes} bytes")
        if (response.content_length or 0) > self._max_bytes:
            raise too_large
        size = 0
        with path.open("wb") as file:
            async for chunk in response.content.iter_chunked(CHUNK):
                size += len(chunk)
                if size > self._max_bytes:
                    raise too_large
                file.write(chunk)


@asynccontextmanager
async def open_fetcher(manners: Manners, max_bytes: int, allowed: Callable[[str], bool]) -> AsyncIterator[Fetcher]:
    """A Fetcher that connects to the IP addresses that are `allowed`, and to no other."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, socket_factory=checked_socket(allowed)),
        timeout=aiohttp.ClientTimeout(
            total=SLOWEST * manners.timeout, sock_connect=manners.timeout, sock_read=manners.timeout
        ),
        headers={"User-Agent": USER_AGENT, "Accept": "image/*", "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # no bombs
    ) as session:
        yield Fetcher(session, manners, max_bytes)


def host_of(address: str) -> str:
    """The host that is asked first; empty for an address that none can be asked for."""
    try:
        return _url(address).host
    except NotFetched:
        return ""


def _url(address: str, base: URL | None = None) -> URL:
    try:
        url = base.join(URL(address)) if base else URL(address)
        if url.scheme in ("http", "https") and url.host:
            return url
    except ValueError:
        pass
    raise NotFetched("no http or https address", address)


def _retry_after(value: str) -> float:
    """Seconds, from either form of the header; 0 where it says nothing."""
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


@contextmanager
def _named_problems() -> Iterator[None]:
    """aiohttp's exceptions as NotFetched."""
    try:
        yield
    except aiohttp.InvalidURL as error:
        raise NotFetched("no http or https address", str(error)) from error
    except aiohttp.ClientConnectorDNSError as error:
        raise NotFetched("its host is not known", str(error), permanent=False) from error
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.__cause__, ForbiddenAddress):
            raise NotFetched("its address is not public", f"host {error.host}") from error
        raise NotFetched("no connection", str(error), permanent=False) from error
    except TimeoutError as error:
        raise NotFetched("no answer in time", permanent=False) from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise NotFetched("its answer broke off", str(error), permanent=False) from error
