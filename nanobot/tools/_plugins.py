"""Tools that installed packages bring: the entry point group `nanobot.tools`."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

from ._tool import Tool
from ._toolset import Toolset

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["PLUGIN_GROUP", "plugin_tools"]

PLUGIN_GROUP: Final = "nanobot.tools"

_log = logging.getLogger("nanobot.plugins")


def plugin_tools(taken: Collection[str]) -> tuple[Tool, ...]:
    """Load what installed packages offer, in the order of the entry points' names. Blocks while they are imported.

    An entry point names a tool, or a list or tuple of tools. One that cannot be used is left out, with a warning to the
    logger `nanobot.plugins` that names it, its package and the reason: a package that somebody installed must not keep a
    bot from working. For the same reason no plugin replaces a tool that is there.

    Args:
      taken: Names that are in use.
    """
    # deferred: 20 ms, and only who makes a runtime needs it
    from importlib.metadata import entry_points

    names = set(taken)
    tools: list[Tool] = []
    for entry in sorted(
        entry_points(group=PLUGIN_GROUP), key=lambda entry: (entry.name, entry.value)
    ):
        try:
            for tool in Toolset(_listed(entry.load())):
                if tool.spec.name in names:
                    _log.warning(
                        "plugin %s: there is a tool called %r already; the plugin's (%s) is left out",
                        _told(entry),
                        tool.spec.name,
                        tool.origin,
                    )
                    continue
                names.add(tool.spec.name)
                tools.append(tool)
        except Exception as error:  # noqa: BLE001 - importing runs a stranger's code
            _log.warning(
                "plugin %s cannot be used, and is left out: %s: %s",
                _told(entry),
                type(error).__name__,
                error,
                exc_info=_log.isEnabledFor(logging.DEBUG),
            )
    return tuple(tools)


def _listed(found: Any) -> Iterable[Tool]:
    return found if isinstance(found, list | tuple) else (found,)


def _told(entry: EntryPoint) -> str:
    package = (
        "an unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
    )
    return f"{entry.name!r} ({entry.value}, from {package})"
