"""What is wrong with a configuration: the issues, and the error that lists them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from nanobot.errors import ConfigError

__all__ = ["InvalidConfig", "Issue", "KeyPath", "dotted"]

KeyPath: TypeAlias = tuple[str | int, ...]

# Enough to see a pattern, few enough to stay readable in a terminal.
_SHOWN_ISSUES = 10
_LONGEST_KEY = 64


class Issue(Struct, frozen=True):
    """One thing to correct. `path` is dotted and in camelCase, "" for the whole file; no value is ever quoted."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class InvalidConfig(ConfigError):
    """A configuration file cannot be used; the text names the file and up to ten issues.

    Attributes:
      path: The file, or None when the settings did not come from one.
      issues: Everything that was found, also what the text leaves out.
    """

    def __init__(self, path: Path | None, issues: Iterable[Issue]) -> None:
        self.path = path
        self.issues = tuple(issues)
        lines = [f"Invalid configuration: {path or 'settings'}"]
        lines += [f"  {issue}" for issue in self.issues[:_SHOWN_ISSUES]]
        if len(self.issues) > _SHOWN_ISSUES:
            lines.append(f"  … and {len(self.issues) - _SHOWN_ISSUES} more")
        super().__init__("\n".join(lines))


def dotted(path: KeyPath) -> str:
    """Show where a key is. Keys that do not look like names are hidden: they may be misplaced values."""
    return ".".join(str(part) if isinstance(part, int) else _shown(part) for part in path)


def _shown(key: str) -> str:
    looks_like_name = key.isprintable() and 0 < len(key) <= _LONGEST_KEY
    return key if looks_like_name else "<hidden>"
