"""What a type accepts, in words for the person who has to correct a value."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from msgspec import Meta

from ._shape import Either, Listing, Record, Shape, Table, bare_type

__all__ = ["expectation"]

# The largest whole number that JSON carries exactly; as a limit it is not worth a word.
_UNLIMITED = 2**53


def expectation(shape: Shape) -> str:
    """Say what is accepted, such as "a number from 0 to 2 or null"."""
    match shape:
        case Record() | Table():
            return "an object, written {…}"
        case Listing():
            return "a list, written […]"
        case Either(nested=nested, plain=plain):
            return f"{expectation(nested)}, or {expectation(plain)}"
    return _words(shape.type)


def _words(annotation: Any) -> str:
    if get_origin(bare_type(annotation)) in (Union, types.UnionType):
        return " or ".join(map(_words, get_args(bare_type(annotation))))
    metas: list[Meta] = []
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        metas += [meta for meta in more if isinstance(meta, Meta)]
    for meta in metas:
        if meta.extra and "expected" in meta.extra:
            return str(meta.extra["expected"])
    return f"{_name(annotation)}{_bounds(metas)}"


def _name(bare: Any) -> str:
    if get_origin(bare) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(bare))
    names: dict[Any, str] = {
        str: "text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        Any: "anything",
        types.NoneType: "null",
    }
    return names[bare]


def _bounds(metas: list[Meta]) -> str:
    low = next((meta.ge for meta in metas if meta.ge is not None), None)
    above = next((meta.gt for meta in metas if meta.gt is not None), None)
    high = next((meta.le for meta in metas if meta.le is not None), None)
    if high == _UNLIMITED:
        high = None
    if any(meta.min_length for meta in metas):
        return " that is not empty"
    if above is not None:
        return f" above {above:g}" + (f", at most {high:g}" if high is not None else "")
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    return f", at least {low:g}" if low is not None else ""
