"""What the model is told of a tool's parameters, and what is accepted from it, is the same thing."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from nanobot.errors import ToolError
from nanobot.tools._arguments import convert_arguments
from nanobot.tools._schema import Parameters, parameters_from_function


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(Struct, forbid_unknown_fields=True):
    x: int
    title: str = "here"


@dataclasses.dataclass
class Size:
    width: Annotated[float, Meta(gt=0)]
    unit: Literal["cm", "in", 7] = "cm"


class Range(TypedDict):
    first: int
    last: int | None


class Circle(Struct, tag=True):
    radius: int


class Square(Struct, tag=True):
    side: int


class Pair(NamedTuple):
    key: str
    value: bool


SIMPLE: list[Any] = [
    int,
    str,
    float,
    bool,
    Color,
    Point,
    Size,
    Range,
    Circle | Square,
    Pair,
    Any,
    Literal["a", "b", 3],
    Annotated[int, Meta(ge=-3, lt=9, multiple_of=3)],
    Annotated[float, Meta(gt=0, le=1.5)],
    Annotated[str, Meta(min_length=2, max_length=4, pattern="^[ab]")],
    Annotated[list[int], Meta(min_length=1, max_length=2)],
    Annotated[dict[str, int], Meta(max_length=1)],
    int | str,
    float | bool,
    tuple[int, str],
    dict[str, Annotated[int, Meta(ge=0)]],
]

TYPES = st.recursive(
    st.sampled_from(SIMPLE),
    lambda inner: st.one_of(
        inner.map(lambda kind: list[kind]),  # type: ignore[valid-type]  # mypy reads types, not values
        inner.map(lambda kind: dict[str, kind]),  # type: ignore[valid-type]
        inner.map(lambda kind: kind | None),
    ),
    max_leaves=3,
)

FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32).filter(
    lambda x: not x.is_integer()
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10),
    FLOATS,
    st.sampled_from(["", "a", "abc", "red", "5", "true", "null", "[1]", '{"x": 1}']),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["x", "title", "width", "unit", "first", "last", "type", "radius", "side"]
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=6,
)


def parameters_of(
    annotations: dict[str, Any], optional: dict[str, Any] | None = None
) -> Parameters:
    """What a function with these parameters takes."""

    def function() -> None: ...

    defaults = optional or {}
    function.__annotations__ = annotations
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # inspect reads it
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(name, inspect.Parameter.empty),
            )
            for name in annotations
        ]
    )
    return parameters_from_function(function, skip_self=False, caller=sys._getframe())


def valid(schema: dict[str, Any], value: Any) -> bool:
    """Whether a JSON value satisfies a schema: the specification, as far as our schemas use it."""
    return all(CHECKS[key](schema, value) for key in schema if key in CHECKS)


def is_type(name: str, value: Any) -> bool:
    kinds: dict[str, Callable[[Any], bool]] = {
        "null": lambda v: v is None,
        "boolean": lambda v: isinstance(v, bool),
        "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
        "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
        "string": lambda v: isinstance(v, str),
        "array": lambda v: isinstance(v, list),
        "object": lambda v: isinstance(v, dict),
    }
    return kinds[name](value)


def number(check: Callable[[Any, Any], bool], key: str) -> Callable[[dict[str, Any], Any], bool]:
    return lambda schema, value: not is_type("number", value) or check(value, schema[key])


def length(
    check: Callable[[int, int], bool], key: str, kind: str
) -> Callable[[dict[str, Any], Any], bool]:
    return lambda schema, value: not is_type(kind, value) or check(len(value), schema[key])


def valid_members(schema: dict[str, Any], value: Any) -> bool:
    others = schema.get("additionalProperties", True)
    known = schema.get("properties", {})
    return not is_type("object", value) or all(
        valid(known[name], part)
        if name in known
        else others is True or (others is not False and valid(others, part))
        for name, part in value.items()
    )


def valid_items(schema: dict[str, Any], value: Any) -> bool:
    if not is_type("array", value):
        return True
    first = schema.get("prefixItems", [])
    rest = schema.get("items", True)
    return all(map(valid, first, value)) and all(
        rest is True or (rest is not False and valid(rest, part)) for part in value[len(first) :]
    )


CHECKS: dict[str, Callable[[dict[str, Any], Any], bool]] = {
    "type": lambda schema, value: is_type(schema["type"], value),
    "enum": lambda schema, value: any(
        value == one and type(value) is type(one) for one in schema["enum"]
    ),
    "anyOf": lambda schema, value: any(valid(one, value) for one in schema["anyOf"]),
    "properties": valid_members,
    "additionalProperties": valid_members,
    "required": lambda schema, value: (
        not is_type("object", value) or all(n in value for n in schema["required"])
    ),
    "prefixItems": valid_items,
    "items": valid_items,
    "minimum": number(lambda value, bound: value >= bound, "minimum"),
    "maximum": number(lambda value, bound: value <= bound, "maximum"),
    "exclusiveMinimum": number(lambda value, bound: value > bound, "exclusiveMinimum"),
    "exclusiveMaximum": number(lambda value, bound: value < bound, "exclusiveMaximum"),
    "multipleOf": number(lambda value, bound: value % bound == 0, "multipleOf"),
    "minLength": length(lambda size, bound: size >= bound, "minLength", "string"),
    "maxLength": length(lambda size, bound: size <= bound, "maxLength", "string"),
    "minItems": length(lambda size, bound: size >= bound, "minItems", "array"),
    "maxItems": length(lambda size, bound: size <= bound, "maxItems", "array"),
    "maxProperties": length(lambda size, bound: size <= bound, "maxProperties", "object"),
    "pattern": lambda schema, value: not is_type("string", value) or value[:1] in ("a", "b"),
}
UNDERSTOOD = {*CHECKS, "description", "default"}


def understood(schema: Any) -> bool:
    """Whether the specification above covers a schema."""
    if isinstance(schema, bool):
        return True
    parts = [
        *schema.get("properties", {}).values(),
        *schema.get("anyOf", []),
        *schema.get("prefixItems", []),
    ]
    parts += [schema[key] for key in ("items", "additionalProperties") if key in schema]
    return schema.keys() <= UNDERSTOOD and all(map(understood, parts))


@given(TYPES, TYPES, JSON, JSON, st.booleans())
def test_the_schema_and_the_check_never_disagree(
    first: Any, second: Any, one: Any, other: Any, whole: bool
) -> None:
    parameters = parameters_of({"one": first, "other": second})
    given = {"one": one, "other": other} if whole else {"one": one}
    assert understood(parameters.schema), parameters.schema
    strict = None
    try:
        strict = msgspec.convert(given, parameters.model)
    except msgspec.ValidationError:
        pass
    assert valid(parameters.schema, given) == (strict is not None)


@given(TYPES, JSON)
def test_what_the_schema_allows_arrives_as_it_was_meant(kind: Any, value: Any) -> None:
    parameters = parameters_of({"it": kind})
    if valid(parameters.schema, {"it": value}):
        strict = msgspec.convert({"it": value}, parameters.model)
        assert convert_arguments({"it": value}, parameters) == {"it": strict.it}  # type: ignore[attr-defined]  # made for the test


@given(TYPES, st.dictionaries(st.sampled_from(["it", "other", "", "It"]), JSON, max_size=3))
def test_what_does_not_fit_is_told_and_never_breaks(kind: Any, given: dict[str, Any]) -> None:
    parameters = parameters_of({"it": kind})
    try:
        values = convert_arguments(given, parameters)
    except ToolError as error:
        told = str(error)
    else:
        assert values.keys() == {"it"}
        msgspec.convert(msgspec.to_builtins(values["it"]), kind)  # it is what the annotation says
        return
    assert "Expected: it" in told
    assert not valid(parameters.schema, given)


@pytest.mark.parametrize(
    "kind", [int, str, list[Point], Color | None, Annotated[int, Meta(title="Ti", ge=1)]]
)
def test_no_schema_has_titles_or_names_to_look_up(kind: Any) -> None:
    schema = str(parameters_of({"it": kind}).schema)
    assert "$" not in schema
    assert "Ti" not in schema


def test_a_parameter_called_title_stays() -> None:
    assert list(parameters_of({"title": str, "discriminator": int}).schema["properties"]) == [
        "title",
        "discriminator",
    ]
