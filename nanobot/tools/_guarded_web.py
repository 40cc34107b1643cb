"""The way into the web for URLs that strangers write: a model, or the page that it has read.

Such a URL must not lead to the machine itself, to its neighbors, or to the service that hands cloud machines their keys
(169.254.169.254). A name is resolved once, all of its addresses are checked, and one of those is connected to: there
is no second look-up that could answer otherwise. TLS still verifies the name. Each redirect goes the same way again.
"""

from __future__ import annotations

import ssl
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urljoin

import httpcore
import httpx
import trio

from nanobot.errors import ToolError

from ._addresses import AddressPolicy
from ._fence import shown
from ._fetched import Fetched, Resolve
from ._inflate import Inflater
from ._threads import in_file_thread

__all__ = ["GuardedWeb"]

_MOST_REDIRECTS: Final = 5
_MOST_ADDRESSES: Final = 4
"""Of one name that are tried. A service with more of them has other problems."""

_CONNECT_S: Final = 5.0
"""Seconds for one address, TLS not counted. One that does not answer by then would take a minute to say so."""

_SILENCE_S: Final = 20.0
_MOST_PACKED: Final = 20 * 1024 * 1024
"""Bytes read from the network for one response."""

_LONGEST_URL: Final = 8192


class GuardedWeb:
    """What a `Network` does; see there for the arguments and what is raised."""

    def __init__(
        self,
        policy: AddressPolicy,
        proxy: str | None,
        user_agent: str,
        resolve: Resolve,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._policy = policy
        self._proxy = proxy
        self._user_agent = user_agent
        self._resolve = resolve
        self._tls = tls

    async def fetch(self, url: str, *, most_bytes: int, accept: str = "*/*") -> Fetched:
        """See `Network.fetch`."""
        for _ in range(_MOST_REDIRECTS + 1):
            asked = _checked(url)
            if self._proxy is not None:
                await self._check_what_the_proxy_will_reach(asked)
            headers = {"Accept": accept}
            fetched = await self._exchange("GET", url, headers, b"", most_bytes, guarded=True)
            location = fetched.headers.get("location", "")
            if fetched.status not in (301, 302, 303, 307, 308) or not location:
                return fetched
            try:
                url = urljoin(url, location)
            except ValueError as error:
                raise ToolError(f"{shown(url)} redirects to what is no URL: {error}.") from error
        raise ToolError(
            f"{shown(url)} was not reached: there were more than {_MOST_REDIRECTS} redirects."
        )

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        most_bytes: int,
    ) -> Fetched:
        """See `Network.ask`."""
        return await self._exchange(method, url, headers, body, most_bytes, guarded=False)

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        most_bytes: int,
        *,
        guarded: bool,
    ) -> Fetched:
        sent = {"User-Agent": self._user_agent, "Accept-Encoding": "gzip, deflate", **headers}
        limits = {"connect": _CONNECT_S * _MOST_ADDRESSES, "read": _SILENCE_S, "write": _SILENCE_S}
        where = _without_query(url)
        try:
            target = httpx.URL(url)
            async with (
                self._connections(guarded=guarded) as connections,
                connections.stream(
                    method,
                    httpcore.URL(
                        scheme=target.raw_scheme,
                        host=target.raw_host,
                        port=target.port,
                        target=target.raw_path,
                    ),
                    headers=[("Host", target.netloc), *sent.items()],
                    content=body or None,
                    extensions={"timeout": {**limits, "pool": _SILENCE_S}},
                ) as response,
            ):
                return await _received(response, url, most_bytes)
        except httpcore.TimeoutException as error:
            raise ToolError(f"{where} did not answer in time.") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError) as error:
            raise ToolError(f"{where} cannot be reached: {_reason(error)}.") from error
        except (httpcore.UnsupportedProtocol, httpx.InvalidURL, ValueError) as error:
            raise ToolError(f"{where} cannot be asked for: {error}.") from error
        except ImportError as error:
            raise ToolError("A SOCKS proxy needs another package: pip install socksio.") from error

    @asynccontextmanager
    async def _connections(self, *, guarded: bool) -> AsyncIterator[httpcore.AsyncConnectionPool]:
        if self._tls is None:
            self._tls = await in_file_thread(httpx.create_ssl_context)
        tls = self._tls
        if self._proxy is None:
            policy = self._policy if guarded else None
            pool = httpcore.AsyncConnectionPool(tls, network_backend=_Pinned(self._resolve, policy))
        else:
            address = httpx.URL(self._proxy)
            auth = (address.username, address.password) if address.userinfo else None
            pool = httpcore.AsyncConnectionPool(
                tls,
                proxy=httpcore.Proxy(str(address.copy_with(username="", password="")), auth),
                network_backend=httpcore.TrioBackend(),
            )
        try:
            yield pool
        finally:
            with trio.CancelScope(shield=True):  # closes sockets, and says goodbye to nobody
                await pool.aclose()

    async def _check_what_the_proxy_will_reach(self, url: httpx.URL) -> None:
        try:
            addresses = await self._resolve(url.raw_host.decode("ascii"), url.port or 443)
        except (OSError, UnicodeError):
            return
        _check_addresses(url.host, addresses, self._policy)


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked, and to nothing else."""

    def __init__(self, resolve: Resolve, policy: AddressPolicy | None) -> None:
        self._resolve = resolve
        self._policy = policy
        self._trio = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        host = host.strip("[]")
        try:
            with trio.fail_after(_SILENCE_S):
                addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name {host} is not known") from error
        except trio.TooSlowError as error:
            raise httpcore.ConnectTimeout from error
        if self._policy is not None:
            _check_addresses(host, addresses, self._policy)
        failure: Exception = httpcore.ConnectError(f"the name {host} has no address")
        for address in addresses[:_MOST_ADDRESSES]:
            try:
                return await self._trio.connect_tcp(
                    address, port, _CONNECT_S, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self, *args: object, **kwargs: object
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("a local socket")

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


def _checked(url: str) -> httpx.URL:
    if len(url) > _LONGEST_URL:
        raise ToolError(f"The URL has {len(url):,} characters; {_LONGEST_URL:,} are the limit.")
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise ToolError(f"{shown(url)} is no URL: {error}.") from error
    if parsed.scheme not in ("http", "https"):
        raise ToolError(
            f"{shown(url)} cannot be fetched: only http:// and https:// can."
            + (" Files are read with read_file." if parsed.scheme == "file" else "")
        )
    if not parsed.host:
        raise ToolError(f"{shown(url)} is no URL: it names no host.")
    if parsed.userinfo:
        raise ToolError(
            f"A URL with a name or a password in it is not fetched: {shown(parsed.host)}."
        )
    return parsed


def _check_addresses(host: str, addresses: list[str], policy: AddressPolicy) -> None:
    if refused := [address for address in addresses if not policy.permits(address)]:
        raise ToolError(
            f"{shown(host)} is not fetched: {refused[0]} is not a public address. The owner can permit private networks"
            " with tools.ssrfWhitelist."
        )


async def _received(response: httpcore.Response, url: str, most_bytes: int) -> Fetched:
    headers: dict[str, str] = {}
    for name, value in response.headers:
        headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    try:
        inflater = Inflater(headers.get("content-encoding", ""))
    except ValueError as error:
        raise ToolError(
            f"{_without_query(url)} answers in an encoding that was not asked for: {shown(str(error))}."
        ) from error
    body = bytearray()
    packed = 0
    broken: zlib.error | None = None
    # What is left early is left by a cancellation at the next read: httpcore's generators stand inside each other, and
    # only what comes from the innermost closes them all.
    with trio.CancelScope() as enough:
        async for piece in response.aiter_stream():
            if enough.cancel_called:
                continue
            packed += len(piece)
            try:
                body += inflater.feed(piece, most_bytes + 1 - len(body))
            except zlib.error as error:
                broken = error
            if broken is not None or len(body) > most_bytes or packed > _MOST_PACKED:
                enough.cancel()
    if broken is not None or not (enough.cancel_called or inflater.is_whole):
        raise ToolError(f"{_without_query(url)} sent a body that cannot be unpacked.") from broken
    return Fetched(
        url, response.status, headers, bytes(body[:most_bytes]), is_cut=enough.cancel_called
    )


def _without_query(url: str) -> str:
    """A URL for an error: what a query holds may be a secret."""
    return shown(url.partition("?")[0])


def _reason(error: BaseException) -> str:
    while not str(error) and error.__cause__ is not None:
        error = error.__cause__
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message})"
        cause = cause.__cause__ or cause.__context__
    return str(error).rstrip(".") or type(error).__name__
