"""Every value of the wrong type in a configuration, found without quoting a single one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ._expectation import expectation
from ._issues import Issue, KeyPath, dotted
from ._shape import Either, Leaf, Listing, Record, Shape, Table

__all__ = ["mistakes"]


def mistakes(value: Any, shape: Shape, path: KeyPath = ()) -> Iterator[Issue]:
    """Say what was expected wherever the value does not fit its shape; keys are camelCase already."""
    match shape:
        case Either(nested=nested) if isinstance(value, dict | list):
            yield from mistakes(value, nested, path)
        case Record(members=members) if isinstance(value, dict):
            for name in dict.fromkeys(member.name for member in members.values()):
                member = members[name]
                if name in value:
                    yield from mistakes(value[name], member.shape, (*path, name))
                elif member.required:
                    yield Issue(dotted((*path, name)), "is missing")
        case Table(values=values) if isinstance(value, dict):
            for key, member_value in value.items():
                yield from mistakes(member_value, values, (*path, key))
        case Listing(items=items) if isinstance(value, list):
            for index, item in enumerate(value):
                yield from mistakes(item, items, (*path, index))
        case Leaf(type=accepted) | Either(plain=Leaf(type=accepted)) if _fits(value, accepted):
            return
        case _:
            yield Issue(dotted(path), f"expected {expectation(shape)}")


def _fits(value: Any, expected_type: Any) -> bool:
    try:
        msgspec.convert(value, expected_type, strict=False)
    except msgspec.ValidationError:
        return False
    return True
