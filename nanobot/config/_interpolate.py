"""`${VAR}` in any text of a configuration becomes the value of an environment variable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ._issues import Issue, KeyPath, dotted

__all__ = ["Interpolation"]

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Interpolation:
    """One pass over a tree with one environment; `missing` lists each reference that had nothing to stand for.

    Keys are left alone, a value is not looked into again, and a variable that is set to nothing counts as set.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.missing: list[Issue] = []

    def resolved(self, value: Any, path: KeyPath = ()) -> Any:
        """The value with every reference replaced."""
        if isinstance(value, str):
            return self._text(value, path) if "${" in value else value
        if isinstance(value, dict):
            return {key: self.resolved(member, (*path, key)) for key, member in value.items()}
        if isinstance(value, list):
            return [self.resolved(item, (*path, index)) for index, item in enumerate(value)]
        return value

    def _text(self, text: str, path: KeyPath) -> str:
        def value_of(reference: re.Match[str]) -> str:
            name = reference[1]
            if name in self._env:
                return self._env[name]
            self.missing.append(Issue(dotted(path), f"the environment variable {name} is not set"))
            return ""

        return _REFERENCE.sub(value_of, text)
