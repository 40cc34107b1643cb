"""One endpoint that takes JSON by POST and streams its answer: what every HTTP vendor's provider stands on."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import trio
from msgspec.structs import replace

from nanobot._version import __version__
from nanobot.errors import (
    ConfigError,
    ConnectionFailed,
    MalformedStream,
    ProviderError,
    ProviderTimeout,
    TimeoutPhase,
    UsageError,
)

from ._address import Address, address_from_url
from ._answer_body import AnswerBody
from ._connection_count import ConnectionCount
from ._endpoint import Endpoint
from ._exchange import ExchangeLimits
from ._http1 import ResponseHead
from ._http_errors import ERROR_BODY_BYTES, chained, error_from_response, without_secrets
from ._pool import ConnectionPool
from ._request_head import RequestHead
from ._transport_errors import NotConnected, TransportError, TransportTimeout

__all__ = ["HTTPService"]

_ERROR_BODY_WITHIN_S: Final = 5.0
"""How long the explanation of an error is waited for: the status is worth reporting without it."""

_NOT_TO_CONFIGURE: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})
"""Headers that follow from the address and the body; a configured value could only contradict them."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_SECRET_WORDS: Final = ("auth", "key", "token", "secret", "password", "cookie")


class HTTPService:
    """Posts to one path of an endpoint and turns whatever goes wrong into our errors. Lives in one Trio run.

    Args:
      endpoint: Where the service is and how it wants to be spoken to. Its `extra_headers` win over ours, but
      for the
        headers that follow from the address and the body; its `extra_query` is added to the URL.
      path: Appended to the base URL, unless that ends with it already: "/chat/completions".
      headers: What the vendor wants on every request, with credentials.
      pool: Used as it is and left open, so that several providers can share one. None makes one that `aclose` closes.

    Raises:
      ConfigError: The endpoint cannot be used; the text names the setting.

    Attributes:
      name: The provider's name as in the configuration.
      secrets: Texts of the endpoint that must not appear in errors.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        path: str,
        *,
        headers: Mapping[str, str],
        pool: ConnectionPool | None = None,
    ) -> None:
        self.name = endpoint.name
        self._endpoint = endpoint
        address = _request_address(endpoint, path)
        self._shown_url = f"{address.scheme}://{address.netloc}{address.path}"
        self._head = RequestHead("POST", address, _request_headers(endpoint, headers))
        self.secrets = _secrets_of(endpoint)
        self._own_pool: ConnectionPool | None = None
        if pool is None:
            if endpoint.ca_file is not None and not os.path.isfile(endpoint.ca_file):  # noqa: PTH113
                raise ConfigError(
                    f"providers.{endpoint.name}.caFile: there is no file {endpoint.ca_file!r}"
                )
            try:
                pool = self._own_pool = ConnectionPool(
                    verify=endpoint.ca_file, proxy=endpoint.proxy
                )
            except ValueError as exc:
                raise ConfigError(f"providers.{endpoint.name}.proxy: {exc}") from None
        self._pool = pool
        self._closed = False

    async def post(self, body: bytes) -> AnswerBody:
        """Send a JSON body and return the answer's once the service has accepted the request (status 2xx).

        Raises:
          ProviderError: The service refused, failed or could not be reached.
          UsageError: `aclose` was called.

        Cancellation closes the connection before it propagates.
        """
        if self._closed:
            raise UsageError(f"provider {self.name!r} is closed; make a new one")
        limits = self._endpoint.timeouts
        deadline = trio.current_time() + limits.request_s
        bounds = ExchangeLimits(
            limits.connect_s, limits.first_token_s, limits.first_token_s, deadline
        )
        failure: ProviderError | None = None
        try:
            exchange = await self._pool.exchange(self._head, body, bounds)
        except TransportError as exc:
            failure = self._translated(exc)
            if isinstance(exc, TransportTimeout) and trio.current_time() >= deadline:
                failure = self._timed_out("request", limits.request_s)
            failure = chained(failure, exc, self.secrets)
        if failure is not None:
            raise failure
        answer = AnswerBody(
            exchange,
            provider=self.name,
            timeouts=limits,
            deadline=deadline,
            secrets=self.secrets,
        )
        # The head itself is kept out of this frame, which errors show: services quote keys in headers, too.
        status = exchange.head.status
        if not 200 <= status <= 299:
            raise await self._refusal(exchange.head, answer)
        encoding = exchange.head.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            answer.close()
            raise MalformedStream(
                f"{self.name} compressed its answer ({encoding}) although it was asked not to",
                provider=self.name,
                status=status,
            )
        return answer

    def connections(self) -> ConnectionCount:
        """Count the connections of the pool. From any thread."""
        held = self._pool.statistics()
        return ConnectionCount(held.open, held.idle, held.waiting)

    async def aclose(self) -> None:
        """Refuse further requests, and close every connection unless the pool was handed in. Idempotent."""
        self._closed = True
        if self._own_pool is not None:
            await self._own_pool.aclose()

    async def _refusal(self, head: ResponseHead, answer: AnswerBody) -> ProviderError:
        body = bytearray()
        try:
            with trio.move_on_after(_ERROR_BODY_WITHIN_S):
                while len(body) < ERROR_BODY_BYTES and (received := await answer.read()):
                    body += received
        except (ConnectionFailed, ProviderTimeout):
            pass  # the status says more than the end of its explanation
        finally:
            answer.close()
        return error_from_response(
            provider=self.name,
            status=head.status,
            headers=head.headers,
            body=bytes(body[:ERROR_BODY_BYTES]),
            url=self._shown_url,
            now=datetime.now(UTC),
            secrets=self.secrets,
        )

    def _translated(self, exc: TransportError) -> ProviderError:
        limits = self._endpoint.timeouts
        reason = without_secrets(str(exc), self.secrets) or type(exc).__name__
        match exc:
            case TransportTimeout(phase="connect"):
                return self._timed_out("connect", limits.connect_s)
            case TransportTimeout():
                return self._timed_out("first_token", limits.first_token_s)
            case NotConnected():
                hint = f"Check that {self._shown_url} is the right address and that it is up."
                return ConnectionFailed(f"{self.name}: {reason}. {hint}", provider=self.name)
            case _:
                return ConnectionFailed(f"{self.name} gave no answer: {reason}", provider=self.name)

    def _timed_out(self, phase: TimeoutPhase, limit_s: float) -> ProviderTimeout:
        what = {
            "connect": "could not be connected to",
            "first_token": "did not begin to answer",
            "request": "did not finish its answer",
        }[phase]
        return ProviderTimeout(
            f"{self.name} {what} within {limit_s:g} s",
            provider=self.name,
            phase=phase,
            limit_s=limit_s,
        )


def _request_address(endpoint: Endpoint, path: str) -> Address:
    setting = f"providers.{endpoint.name}.apiBase"
    try:
        address = address_from_url(endpoint.base_url.strip())
    except ValueError as exc:
        raise ConfigError(f"{setting} {exc}") from None
    if address.userinfo:
        raise ConfigError(
            f"{setting} must not contain a user name or password; use apiKey or extraHeaders"
        )
    base = address.path.rstrip("/")
    whole = replace(address, path=base if base.endswith(path) else base + path)
    return whole.with_query(endpoint.extra_query)


def _request_headers(endpoint: Endpoint, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    merged = {
        "content-type": "application/json",
        "accept": "text/event-stream, application/json",
        "accept-encoding": "identity",  # compressing an event stream delays its events
        "user-agent": f"nanobot/{__version__}",
    }
    configured = {
        name: value
        for name, value in endpoint.extra_headers.items()
        if name.strip().lower() not in _NOT_TO_CONFIGURE
    }
    for name, value in (*headers.items(), *configured.items()):
        name, value = name.strip(), value.strip()
        if not _HEADER_NAME.fullmatch(name):
            raise ConfigError(
                f"providers.{endpoint.name}.extraHeaders: {name!r} is not a header name"
            )
        if not _HEADER_VALUE.fullmatch(value):  # the value itself may be a secret
            setting = f"extraHeaders.{name}" if name in configured else "apiKey"
            raise ConfigError(
                f"providers.{endpoint.name}.{setting} contains a line break or a character outside ASCII"
            )
        merged[name.lower()] = value
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in merged.items()]


def _secrets_of(endpoint: Endpoint) -> tuple[str, ...]:
    """Return what must not be shown: the key, and every configured value that goes by the name of one."""
    secrets = {endpoint.api_key.strip()}
    for name, value in (*endpoint.extra_headers.items(), *endpoint.extra_query.items()):
        if any(word in name.lower() for word in _SECRET_WORDS):
            secrets.add(value.strip())
            secrets.add(value.strip().rpartition(" ")[2])  # what follows "Bearer"
    if endpoint.proxy is not None:
        _, _, behind_scheme = endpoint.proxy.partition("://")
        userinfo, at, _ = behind_scheme.rpartition("@")
        if at:
            secrets.update((userinfo, userinfo.partition(":")[2]))
    return tuple(secrets - {""})
