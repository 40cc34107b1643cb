"""Both spellings of every known key become camelCase, and keys that nothing uses come to light."""

from __future__ import annotations

import re
from typing import Any

from ._issues import Issue, KeyPath, dotted
from ._shape import Either, Listing, Record, Shape, Table

__all__ = ["Keys"]

_SNAKE_STEP = re.compile(r"_+([a-zA-Z0-9])")


class Keys:
    """One pass over a tree: `renamed()` gives it back in camelCase; `unknown` and `issues` fill on the way.

    Names that the user chose (providers, presets, headers) and everything below an unknown key stay as they are.
    """

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self.issues: list[Issue] = []

    def renamed(self, value: Any, shape: Shape, path: KeyPath = ()) -> Any:
        """The value with known keys in camelCase; a value of another shape is returned as it is."""
        if isinstance(shape, Either):
            shape = shape.nested
        if isinstance(value, dict):
            if isinstance(shape, Record):
                return self._record(value, shape, path)
            if isinstance(shape, Table):
                return {
                    key: self.renamed(member, shape.values, (*path, key))
                    for key, member in value.items()
                }
        elif isinstance(value, list) and isinstance(shape, Listing):
            return [
                self.renamed(item, shape.items, (*path, index)) for index, item in enumerate(value)
            ]
        return value

    def _record(self, value: dict[str, Any], shape: Record, path: KeyPath) -> dict[str, Any]:
        renamed: dict[str, Any] = {}
        for key, member in value.items():
            known = shape.members.get(key)
            if known is None:
                if not shape.open and not _silent(key, shape):
                    self.unknown.append(dotted((*path, key)))
                renamed[key] = member
            elif known.name in renamed:
                self.issues.append(
                    Issue(dotted((*path, known.name)), "stands twice, in camelCase and snake_case")
                )
            else:
                renamed[known.name] = self.renamed(member, known.shape, (*path, known.name))
        return renamed


def _silent(key: str, shape: Record) -> bool:
    camel = _SNAKE_STEP.sub(lambda step: step[1].upper(), key)
    return camel in shape.silent or camel.startswith(shape.silent_prefixes)
