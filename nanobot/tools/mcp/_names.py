"""What the model calls the tools of MCP servers. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from typing import Final

__all__ = ["is_enabled", "plain_name", "tool_names"]

_LONGEST: Final = 64
"""Characters of a function's name that every vendor's API accepts."""

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")
_DIGEST: Final = 8


def plain_name(server: str, tool: str) -> str:
    """`mcp_<server>_<tool>`, with what no API accepts replaced by `_`; of any length."""
    return _UNSAFE.sub("_", f"mcp_{server}_{tool}")


def is_enabled(server: str, tool: str, enabled: Collection[str]) -> bool:
    """Whether `enabledTools` lets a tool through: it may name the tool as its server does, or as the model does."""
    return "*" in enabled or tool in enabled or plain_name(server, tool) in enabled


def tool_names(
    tools: Iterable[tuple[str, str]], taken: Collection[str] = ()
) -> dict[tuple[str, str], str]:
    """Name every tool of every server, given as pairs of server and tool.

    A name is `plain_name` if that is short enough and nobody else's. Otherwise it is cut and ends in a digest of what it
    was made from, for all who would have shared it: so no name depends on who came first. The names of `taken` are other
    tools'. A tool whose name is still not its own, which takes a server that wants that, is left out.
    """
    plain = {pair: plain_name(*pair) for pair in tools}
    shared = _repeated(plain.values()) | set(taken)
    named = {
        pair: _digested(pair, name) if len(name) > _LONGEST or name in shared else name
        for pair, name in plain.items()
    }
    shared = _repeated(named.values()) | set(taken)
    return {pair: name for pair, name in named.items() if name not in shared}


def _repeated(names: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    return {name for name in names if name in seen or seen.add(name)}  # type: ignore[func-returns-value]


def _digested(pair: tuple[str, str], name: str) -> str:
    text = "\0".join(pair).encode("utf-8", "surrogatepass")
    digest = hashlib.sha1(text, usedforsecurity=False).hexdigest()[:_DIGEST]
    return f"{name[: _LONGEST - _DIGEST - 1]}_{digest}"
