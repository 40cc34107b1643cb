"""Every value of the wrong type in a configuration, found without quoting a single one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ._issues import Issue, KeyPath, dotted
from ._shape import Either, Leaf, Listing, Record, Shape, Table

__all__ = ["mistakes"]


def mistakes(value: Any, shape: Shape, path: KeyPath = ()) -> Iterator[Issue]:
    """Say what was expected wherever the value does not fit its shape; keys are camelCase already."""
    match shape:
        case Either(nested=nested, plain=plain):
            yield from mistakes(value, nested if _is_container(value) else plain, path)
        case Record(members=members):
            if not isinstance(value, dict):
                yield Issue(dotted(path), "expected an object, written {…}")
                return
            for name in dict.fromkeys(member.name for member in members.values()):
                member = members[name]
                if name in value:
                    yield from mistakes(value[name], member.shape, (*path, name))
                elif member.required:
                    yield Issue(dotted((*path, name)), "is missing")
        case Table(values=values):
            if not isinstance(value, dict):
                yield Issue(dotted(path), "expected an object, written {…}")
                return
            for key, member_value in value.items():
                yield from mistakes(member_value, values, (*path, key))
        case Listing(items=items):
            if not isinstance(value, list):
                yield Issue(dotted(path), "expected a list, written […]")
                return
            for index, item in enumerate(value):
                yield from mistakes(item, items, (*path, index))
        case Leaf(type=expected_type, expected=expected):
            if not _fits(value, expected_type):
                yield Issue(dotted(path), f"expected {expected}")


def _is_container(value: Any) -> bool:
    return isinstance(value, dict | list)


def _fits(value: Any, expected_type: Any) -> bool:
    try:
        msgspec.convert(value, expected_type, strict=False)
    except msgspec.ValidationError:
        return False
    return True
