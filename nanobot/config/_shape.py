"""What may stand where in a configuration, derived from the Structs.

msgspec stops at the first mistake, quotes values and knows one spelling per key. A shape is the same knowledge in a
form that can be walked beside a JSON tree: to rename keys, to list unknown ones, and to collect every mistake.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

from msgspec import NODEFAULT, Struct, structs

from ._schema import Section

__all__ = [
    "Either",
    "Leaf",
    "Listing",
    "Member",
    "Record",
    "Shape",
    "Table",
    "bare_type",
    "shape_of",
]


class Leaf(Struct, frozen=True):
    """A plain value: the type that msgspec converts it to."""

    type: Any


class Listing(Struct, frozen=True):
    """A JSON array."""

    items: Shape


class Table(Struct, frozen=True):
    """A JSON object whose keys are names that the user chose; they are never touched."""

    values: Shape


class Member(Struct, frozen=True):
    """One known key of a record, under its camelCase name."""

    name: str
    shape: Shape
    required: bool


class Record(Struct, frozen=True):
    """A JSON object with known keys. `members` holds every accepted spelling."""

    members: dict[str, Member]
    silent: frozenset[str]
    silent_prefixes: tuple[str, ...]
    open: bool


class Either(Struct, frozen=True):
    """A value that is written either as an object or array, or plainly (a preset's name, null)."""

    nested: Record | Table | Listing
    plain: Leaf


Shape: TypeAlias = Leaf | Listing | Table | Record | Either


@cache
def shape_of(section: type[Section]) -> Record:
    """The shape of a section, with all that is below it."""
    members: dict[str, Member] = {}
    for known in structs.fields(section):
        required = known.default is NODEFAULT and known.default_factory is NODEFAULT
        member = Member(known.encode_name, _shape(known.type), required)
        members[known.name] = members[known.encode_name] = member
    exact = frozenset(key for key in section.silent_keys if not key.endswith("*"))
    prefixes = tuple(key[:-1] for key in section.silent_keys if key.endswith("*"))
    return Record(members, exact, prefixes, section.open_keys)


def _shape(annotation: Any) -> Shape:
    bare = bare_type(annotation)
    if isinstance(bare, type) and issubclass(bare, Section):
        return shape_of(bare)
    origin, arguments = get_origin(bare), get_args(bare)
    if origin is tuple:
        return Listing(_shape(arguments[0]))
    if origin is Mapping:
        return Table(_shape(arguments[1]))
    if origin in (Union, types.UnionType):
        for argument in arguments:
            nested = _shape(argument)
            if isinstance(nested, Record | Table | Listing):
                others = tuple(other for other in arguments if other is not argument)
                return Either(nested, Leaf(Union[others]))  # noqa: UP007  # known only here
    return Leaf(annotation)


def bare_type(annotation: Any) -> Any:
    """A type without what is annotated to it."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation
