"""What comes back from the web, and how names are found there."""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from msgspec import Struct

from ._threads import in_tool_thread

__all__ = ["Fetched", "Resolve", "resolve"]

_DECLARATION: Final = re.compile(rb"<meta[^>]{0,200}\bcharset\s*=\s*[\"']?([\w.:-]+)", re.I | re.A)
_DECLARED_WITHIN: Final = 1024
"""Source: HTML Living Standard, "Specifying the document's character encoding": within the first 1024 bytes."""

_MEANT: Final = {"iso-8859-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252"}
"""What pages mean by some names. Source: Encoding Standard, "Names and labels"."""

_NONE_OF_PAGES: Final = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape"})
"""Codecs of Python for something else than pages; some read nearly anything, as nothing."""

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""Finds the addresses of a host, as text. Raises `OSError`."""


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system, in a thread. A cancelled look-up is left alone in it until the system gives up."""
    found = await in_tool_thread(
        lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    )
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Fetched(Struct, frozen=True):
    """A response.

    Attributes:
      url: Where it came from in the end.
      status: The HTTP status.
      headers: Names in lower case; of several equal ones, the first.
      body: Unpacked, at most as much as was asked for.
      is_cut: Whether there was more.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    is_cut: bool

    @property
    def media_type(self) -> str:
        """As in `text/html`, in lower case; "" if the server did not say."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def text(self) -> str:
        """The body as text, in the encoding that the server names, or the page itself, or else UTF-8."""
        parameters = self.headers.get("content-type", "").split(";")[1:]
        names = [
            p.partition("=")[2] for p in parameters if p.strip().lower().startswith("charset=")
        ]
        name = names[0].strip("\"' ").lower() if names else self._declared
        if name.replace("_", "-") in _NONE_OF_PAGES:
            name = ""
        try:
            return self.body.decode(_MEANT.get(name, name) or "utf-8", "replace")
        except (
            LookupError,
            ValueError,
        ):  # some codecs of Python are none for pages, or take no "replace"
            return self.body.decode("utf-8", "replace")

    @property
    def _declared(self) -> str:
        """What an HTML page says of its encoding, "" if nothing."""
        if not (found := _DECLARATION.search(self.body, 0, _DECLARED_WITHIN)):
            return ""
        name = found[1].decode("ascii").lower()
        # In UTF-16 it could not be read like this: so says the standard, too.
        return name if "html" in self.media_type and not name.startswith("utf-16") else ""
