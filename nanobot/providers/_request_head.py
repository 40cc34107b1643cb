"""Everything of a request but its body: worked out once for an address that is asked a thousand times."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

import httpx

from ._http1 import RequestError, encode_head

__all__ = ["DEFAULT_PORTS", "Origin", "RequestHead"]

Origin: TypeAlias = tuple[bytes, bytes, int]
"""Scheme, host, port."""

DEFAULT_PORTS: Final = {b"http": 80, b"https": 443}


class RequestHead:
    """Everything of a request but its body, which may be sent any number of times.

    Args:
      method: "POST", for example.
      url: Where to.
      headers: All but `content-length`, which follows from the body; `host` follows from the URL if it is not among them.

    Attributes:
      bodyless: Whether the response to it has no body, whatever it says.
      origin: Whom it is sent to.

    Raises:
      httpx.UnsupportedProtocol: The URL is neither http nor https.
      httpx.LocalProtocolError: It is not legal HTTP.
    """

    __slots__ = ("_encoded", "_headers", "_method", "_url", "bodyless", "origin")

    def __init__(
        self, method: str, url: httpx.URL, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        scheme = url.raw_scheme
        if scheme not in DEFAULT_PORTS or not url.raw_host:
            raise httpx.UnsupportedProtocol(
                f"only http:// and https:// URLs can be requested, not {str(url)[:200]!r}"
            )
        self.origin: Origin = (scheme, url.raw_host, url.port or DEFAULT_PORTS[scheme])
        self._method = method.encode("ascii")
        self.bodyless = method == "HEAD"
        self._url = url
        self._headers = tuple(headers)
        if not any(name.lower() == b"host" for name, _ in self._headers):
            self._headers = ((b"host", url.netloc), *self._headers)
        self._encoded: dict[tuple[tuple[bytes, bytes], ...] | None, bytes] = {}
        self.encoded(b"")

    def encoded(
        self, body: bytes, forward_headers: tuple[tuple[bytes, bytes], ...] | None = None
    ) -> bytes:
        """The bytes before the body.

        Args:
          body: What will follow.
          forward_headers: If they go to a proxy that forwards them: what to tell it.
        """
        encoded = self._encoded.get(forward_headers)
        if encoded is None:
            target = self._url.raw_path
            if forward_headers is not None:
                target = b"%b://%b%b" % (self._url.raw_scheme, self._url.netloc, target)
            headers = (*self._headers, *(forward_headers or ()))
            try:
                encoded = encode_head(self._method, target, headers)
            except RequestError as exc:
                raise httpx.LocalProtocolError(str(exc)) from exc
            self._encoded[forward_headers] = encoded
        return b"%bcontent-length: %d\r\n\r\n" % (encoded, len(body))
