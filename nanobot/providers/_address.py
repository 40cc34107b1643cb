"""The URL of a service, taken apart and written as HTTP wants it.

`httpx.URL` does the same, but importing it takes a third of what a first answer does: httpx brings its command line with it
wherever that is installed. `tests/providers/test_address.py` compares the two.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote_plus, urlencode, urlsplit

import idna
from msgspec import Struct
from msgspec.structs import replace

__all__ = ["DEFAULT_PORTS", "Address", "Origin", "address_from_url"]

Origin = tuple[bytes, bytes, int]
"""Scheme, host, port."""

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_HOST: Final = re.compile(r"[a-z0-9._~-]+|[0-9a-f:.]*:[0-9a-f:.]*")
_STRAY: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_KEPT: Final = "%!$&'()*+,-./:;=@_~"
"""What a path may hold besides letters and digits, "%" because what is escaped stays so. Source: RFC 3986, section 3.3."""


class Address(Struct, frozen=True):
    """Where a request goes.

    Attributes:
      scheme: "http" or "https".
      host: In ASCII and lower case; an IPv6 address is without brackets.
      port: None where it is that of the scheme.
      path: Escaped; begins with "/".
      query: Escaped, without "?".
      userinfo: What stands before "@", as it was written; never sent as part of the address, and not shown.
    """

    scheme: str
    host: str
    port: int | None = None
    path: str = "/"
    query: str = ""
    userinfo: str = ""

    @property
    def netloc(self) -> str:
        """Host and port, as in the header `host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def origin(self) -> Origin:
        """Whom to connect to."""
        port = self.port or DEFAULT_PORTS[self.scheme]
        return (self.scheme.encode("ascii"), self.host.encode("ascii"), port)

    @property
    def target(self) -> str:
        """Path and query, as in a request line."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def with_query(self, more: dict[str, str]) -> Address:
        """Add parameters; one that is there already is given anew."""
        kept = [
            part
            for part in self.query.split("&")
            if part and unquote_plus(part.partition("=")[0]) not in more
        ]
        return replace(self, query="&".join((*kept, urlencode(more))) if more else self.query)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.target}"

    __repr__ = __str__  # without the password


def address_from_url(url: str) -> Address:
    """Take a URL apart. What stands behind "#" is left out.

    Raises:
      ValueError: It is not an http:// or https:// URL that a request could be sent to. The text does not quote it, for it may
        hold a password.
    """
    if not url.isprintable():  # the standard library takes some of these out in silence
        raise ValueError("contains a line break or another character that cannot be seen")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if not host.isascii():
            host = idna.encode(host, uts46=True).decode("ascii")
    except ValueError:  # idna's errors are that, too
        raise ValueError("has no usable host and port") from None
    if parts.scheme not in DEFAULT_PORTS or not host:
        raise ValueError("must be an http:// or https:// URL, like https://api.example.com/v1")
    if not _HOST.fullmatch(host) or port == 0:
        raise ValueError("has no usable host and port")
    return Address(
        parts.scheme,
        host,
        None if port == DEFAULT_PORTS[parts.scheme] else port,
        _escaped(parts.path, safe=_KEPT) or "/",
        _escaped(parts.query, safe=_KEPT + "?"),
        parts.netloc.rpartition("@")[0],
    )


def _escaped(text: str, safe: str) -> str:
    return quote(_STRAY.sub("%25", text), safe=safe)
