"""Who may connect: origin, host and token of a handshake. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from ._tokens import same_secret

__all__ = [
    "LOOPBACK_HOSTS",
    "Admission",
    "Handshake",
    "Refusal",
    "bearer",
    "host_name",
    "is_loopback",
    "read_handshake",
]

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_MAX_CLIENT_ID_CHARS: Final = 128


class Handshake(Struct, frozen=True):
    """What a client's handshake says. `client_id` is "" if it gives none that can be used."""

    path: str
    host: str
    origin: str | None
    client_id: str
    token: str


class Refusal(Struct, frozen=True):
    """The HTTP status with which a handshake is answered, and the reason in words."""

    status: int
    detail: str


class Admission(Struct, frozen=True):
    """The rules of one gateway.

    Attributes:
      path: Where the WebSocket is.
      token: The static token; "" admits whoever can reach the port.
      hosts: Names under which the gateway may be addressed while it asks for no token; against DNS rebinding.
      origins: Web pages that may connect, as `scheme://host:port` in lower case. A client that is no browser sends none.
      redeem: Uses up a short-lived token, and says whether it was good.
    """

    path: str
    token: str
    hosts: frozenset[str]
    origins: frozenset[str]
    redeem: Callable[[str], bool]

    def refusal(self, handshake: Handshake) -> Refusal | None:
        """Why this client may not connect, or None if it may."""
        if handshake.path != self.path:
            return Refusal(404, "there is no WebSocket at this path")
        if handshake.origin is not None and handshake.origin.lower() not in self.origins:
            return Refusal(
                403, "this web page may not connect; see channels.websocket.allowedOrigins"
            )
        if not self.token:
            if host_name(handshake.host) not in self.hosts:
                return Refusal(403, "the gateway is not known by this name")
            return None
        if same_secret(handshake.token, self.token) or self.redeem(handshake.token):
            return None
        return Refusal(401, "a token is needed, and this one is missing, wrong, used or too old")


def read_handshake(target: str, headers: Collection[tuple[bytes, bytes]]) -> Handshake:
    """Understand a handshake; what is not there is ""."""
    named = {name.lower(): value.decode("latin-1").strip() for name, value in headers}
    split = urlsplit(target)
    query = parse_qs(split.query)
    client_id = query.get("client_id", [""])[0]
    if len(client_id) > _MAX_CLIENT_ID_CHARS or not client_id.isprintable():
        client_id = ""
    return Handshake(
        path=split.path or "/",
        host=named.get(b"host", ""),
        origin=named.get(b"origin"),
        client_id=client_id,
        token=query.get("token", [""])[0] or bearer(named.get(b"authorization", "")),
    )


def bearer(authorization: str) -> str:
    """The token of an `Authorization: Bearer …` header, or ""."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def host_name(host: str) -> str:
    """The name in a `Host` header, without port and brackets, in lower case; "" if it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on that address."""
    return host in LOOPBACK_HOSTS or host.startswith("127.")
