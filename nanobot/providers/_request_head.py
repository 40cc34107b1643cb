"""Everything of a request but its body: worked out once for an address that is asked a thousand times."""

from __future__ import annotations

from collections.abc import Iterable

from ._address import Address, Origin
from ._http1 import encode_head

__all__ = ["RequestHead"]


class RequestHead:
    """Everything of a request but its body, which may be sent any number of times.

    Args:
      method: "POST", for example.
      address: Where to.
      headers: All but `content-length`, which follows from the body; `host` follows from the address if it is not among them.

    Attributes:
      bodyless: Whether the response to it has no body, whatever it says.
      origin: Whom it is sent to.

    Raises:
      RequestError: It is not legal HTTP.
    """

    __slots__ = ("_address", "_encoded", "_headers", "_method", "bodyless", "origin")

    def __init__(
        self, method: str, address: Address, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        self.origin: Origin = address.origin
        self._method = method.encode("ascii")
        self.bodyless = method == "HEAD"
        self._address = address
        self._headers = tuple(headers)
        if not any(name.lower() == b"host" for name, _ in self._headers):
            self._headers = ((b"host", address.netloc.encode("ascii")), *self._headers)
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
            target = self._address.target if forward_headers is None else str(self._address)
            headers = (*self._headers, *(forward_headers or ()))
            encoded = encode_head(self._method, target.encode("ascii"), headers)
            self._encoded[forward_headers] = encoded
        return b"%bcontent-length: %d\r\n\r\n" % (encoded, len(body))
