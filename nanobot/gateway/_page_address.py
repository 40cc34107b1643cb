"""Where the page finds the WebSocket, and what it may load: nothing else. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from ._settings import GatewaySettings

__all__ = ["content_security_policy", "websocket_url"]

_HOST: Final = re.compile(r"[a-z0-9.-]{1,253}|[0-9a-f:.]{2,45}")
_ANY: Final = frozenset({"", "0.0.0.0", "::"})


def websocket_url(settings: GatewaySettings, host: str) -> str:
    """The WebSocket's address for a browser that asked for the page at `host` (a `Host` header).

    It is what the configuration says; else where the WebSocket listens; else, if it listens everywhere, the host by which
    the browser found us, if that looks like one.
    """
    if settings.public_url:
        return settings.public_url
    name = settings.websocket_host
    if name in _ANY:
        asked = _name(host)
        name = asked if _HOST.fullmatch(asked) else "127.0.0.1"
    shown = f"[{name}]" if ":" in name else name
    return f"ws://{shown}:{settings.websocket_port}{settings.path}"


def content_security_policy(url: str) -> str:
    """A policy under which the page runs its own files, connects to its own server and to this WebSocket, and nothing else.

    Scripts cannot write HTML but through DOMPurify, and images must be data: a model's text that shows an image from
    elsewhere would tell that server what is in the address.
    """
    split = urlsplit(url)
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            f"connect-src 'self' {split.scheme}://{split.netloc}{split.path}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types dompurify",
        )
    )


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
