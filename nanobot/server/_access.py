"""Who may ask: keys, addresses, and what browsers say about where a request comes from. Pure."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from nanobot.errors import ConfigError

from ._api_error import ApiError

__all__ = ["check_bind", "check_key", "check_origin", "is_loopback"]


def is_loopback(host: str) -> bool:
    """Whether an address, or a host name as URLs have it, can only be this machine."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_bind(host: str, api_key: str) -> None:
    """Refuse to be reachable from other machines without a key.

    Raises:
      ConfigError: Says what to set.
    """
    if not api_key and not is_loopback(host):
        raise ConfigError(
            f"api.host {host!r} is reachable from other machines, and there is no api.apiKey: whoever finds the port could"
            " use the agent and its tools. Set api.apiKey, or listen on 127.0.0.1."
        )


def check_key(authorization: str | None, api_key: str) -> None:
    """Check an `Authorization` header against the key, in a time that does not tell how much of it was right.

    Raises:
      ApiError: 401.
    """
    if not api_key:
        return
    scheme, _, credentials = (authorization or "").partition(" ")
    given = credentials.strip().encode("utf-8", "surrogateescape")
    if hmac.compare_digest(given, api_key.encode()) and scheme.lower() == "bearer":
        return
    if authorization is None:
        message = "You did not provide an API key: send it as `Authorization: Bearer KEY`."
    else:
        message = "Incorrect API key provided."
    raise ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


def check_origin(host: str | None, origin: str | None, api_key: str) -> None:
    """Keep pages of the web from using a server that asks for no key through the browser of its user.

    A page may send a form anywhere, and may have its own host name resolve to 127.0.0.1; the headers that the browser
    adds give it away. With a key this is not needed: no page can know it.

    Raises:
      ApiError: 403.
    """
    if api_key:
        return
    if host is not None and not is_loopback(_hostname(f"//{host}")):
        raise ApiError(
            403,
            f"This server answers to loopback names, not to {host!r:.100}, until it is given a key (api.apiKey).",
            code="host_not_allowed",
        )
    if origin is not None and not is_loopback(_hostname(origin)):
        raise ApiError(
            403,
            f"Pages from {origin!r:.100} may not use this server until it is given a key (api.apiKey).",
            code="origin_not_allowed",
        )


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
