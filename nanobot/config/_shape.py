"""What may stand where in a configuration, derived from the Structs.

msgspec stops at the first mistake, quotes values and knows one spelling per key. A shape is the same knowledge in a
form that can be walked beside a JSON tree: to rename keys, to list unknown ones, and to collect every mistake.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from msgspec import NODEFAULT, Meta, Struct, structs

from ._schema import Section

__all__ = ["Either", "Leaf", "Listing", "Member", "Record", "Shape", "Table", "shape_of"]


class Leaf(Struct, frozen=True):
    """A plain value: what msgspec converts it to, and how to say so to a person."""

    type: Any
    expected: str


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
    bare = _bare(annotation)
    if isinstance(bare, type) and issubclass(bare, Section):
        return shape_of(bare)
    origin, arguments = get_origin(bare), get_args(bare)
    if origin is tuple:
        return Listing(_shape(arguments[0]))
    if origin is Mapping:
        return Table(_shape(arguments[1]))
    if origin in (Union, types.UnionType):
        shapes = [_shape(argument) for argument in arguments]
        nested = [shape for shape in shapes if not isinstance(shape, Leaf)]
        plain = [shape for shape in shapes if isinstance(shape, Leaf)]
        if nested and isinstance(nested[0], Record | Table | Listing):
            return Either(nested[0], _joined(plain, nested[0]))
        return Leaf(annotation, _joined(plain).expected)
    return Leaf(annotation, _expected(annotation))


def _bare(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _joined(leaves: list[Leaf], nested: Shape | None = None) -> Leaf:
    words = [] if nested is None else ["a list" if isinstance(nested, Listing) else "an object"]
    return Leaf(
        Union[tuple(leaf.type for leaf in leaves)],  # noqa: UP007  # the members are only known here
        " or ".join([*words, *(leaf.expected for leaf in leaves)]),
    )


def _expected(annotation: Any) -> str:
    metas: list[Meta] = []
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        metas += [meta for meta in more if isinstance(meta, Meta)]
    for meta in metas:
        if meta.extra and "expected" in meta.extra:
            return str(meta.extra["expected"])
    return f"{_named(annotation)}{_bounded(metas)}"


def _named(bare: Any) -> str:
    if get_origin(bare) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(bare))
    if bare is None or bare is types.NoneType:
        return "null"
    names: dict[Any, str] = {
        str: "text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        typing.Any: "anything",
    }
    return names[bare]


def _bounded(metas: list[Meta]) -> str:
    low = next((meta.ge for meta in metas if meta.ge is not None), None)
    above = next((meta.gt for meta in metas if meta.gt is not None), None)
    high = next((meta.le for meta in metas if meta.le is not None), None)
    if high is not None and high >= 2**53:  # the largest whole number JSON carries exactly
        high = None
    if any(meta.min_length for meta in metas):
        return " that is not empty"
    if above is not None:
        return f" above {above:g}" + (f", at most {high:g}" if high is not None else "")
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    return f", at least {low:g}" if low is not None else ""
