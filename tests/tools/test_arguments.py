"""A model's arguments are taken as they were meant, or it is told what was expected."""

from __future__ import annotations

import sys
from typing import Any, Literal

import pytest

from nanobot.errors import ToolError
from nanobot.tools import decode_arguments
from nanobot.tools._arguments import convert_arguments
from nanobot.tools._schema import parameters_from_function


def search(
    query: str,
    limit: int = 10,
    exact: bool = False,
    tags: list[str] | None = None,
    where: dict[str, int] | int = 0,
) -> None: ...


PARAMETERS = parameters_from_function(search, skip_self=False, caller=sys._getframe())


def converted(**given: Any) -> dict[str, Any]:
    return {
        name: value for name, value in convert_arguments(given, PARAMETERS).items() if name in given
    }


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('{"query": "x"}', {"query": "x"}),
        ("", {}),
        (" \n", {}),
        ("null", {}),
        ('""', {}),
        ("{}", {}),
        ('"{\\"query\\": \\"x\\"}"', {"query": "x"}),
        ('{"arguments": {"query": "x"}}', {"query": "x"}),
        ('{"arguments": "{\\"query\\": \\"x\\"}"}', {"query": "x"}),
        ('{"arguments": {}}', {}),
        ('{"arguments": 5}', {"arguments": 5}),
        ('{"arguments": {"a": 1}, "b": 2}', {"arguments": {"a": 1}, "b": 2}),
        ("{'query': 'x'}", {"query": "x"}),
    ],
)
def test_arguments_are_read_however_they_are_wrapped(text: str, arguments: dict[str, Any]) -> None:
    assert decode_arguments(text, ("query",)) == arguments


def test_a_parameter_that_is_called_arguments_is_not_unwrapped() -> None:
    text = '{"arguments": {"query": "x"}}'
    assert decode_arguments(text, ("arguments",)) == {"arguments": {"query": "x"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[1]",
            "JSON of type array, not an object. Send an object with a member per parameter: query",
        ),
        ("5", "type number, not"),
        ('"hello"', "not valid JSON"),
        ("true", "type boolean, not"),
        ("{", "not valid JSON"),
        ('{"query": "x', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a":' * 100_000, "not valid JSON"),
        ('{"query": "\ud800"}', "not valid JSON"),
        ('{"query": "\\ud800"}', "not valid JSON"),
        ('{"query": NaN}', "not valid JSON"),
        ("9" * 10_000, "not valid JSON"),
    ],
)
def test_what_is_no_object_is_told(text: str, said: str) -> None:
    with pytest.raises(ToolError) as caught:
        decode_arguments(text, ("query",))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"limit": "5"}, 5),
        ({"limit": 5.0}, 5),
        ({"limit": None}, 10),
        ({"exact": "true"}, True),
        ({"exact": 1}, True),
        ({"exact": "0"}, False),
        ({"tags": '["a"]'}, ["a"]),
        ({"tags": None}, None),
        ({"tags": "null"}, None),
        ({"where": '{"a": "1"}'}, {"a": 1}),
        ({"where": "7"}, 7),
    ],
)
def test_what_can_only_mean_one_thing_is_taken_so(given: dict[str, Any], meant: Any) -> None:
    values = convert_arguments({"query": "x", **given}, PARAMETERS)
    assert values[next(iter(given))] == meant


@pytest.mark.parametrize("text", ["5", "true", "null", "[1]", '{"a": 1}', "2024-01-01", " x ", ""])
def test_text_stays_the_text_it_is(text: str) -> None:
    assert converted(query=text) == {"query": text}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "`query` is required."),
        ({"query": 5}, "`query`: expected `str`, got `int`."),
        ({"query": None}, "`query`: expected `str`, got `null`."),
        ({"query": "x", "limit": "many"}, "`limit`: expected `int`, got `str`."),
        ({"query": "x", "limit": True}, "`limit`: expected `int`, got `bool`."),
        ({"query": "x", "tags": [1]}, "`tags[0]`: expected `str`, got `int`."),
        ({"query": "x", "tags": "a"}, "`tags`: expected `array | null`, got `str`."),
        ({"query": "x", "where": {"a": "b"}}, "`where[...]`: expected `int`, got `str`."),
        ({"query": "x", "exact": "maybe"}, "`exact`: expected `bool`, got `str`."),
        ({"query": "x", "qeury": "x"}, "`qeury` is no parameter (did you mean `query`?)."),
        (
            {"limits": 1, "exact": 7},
            "`query` is required; `limits` is no parameter (did you mean `limit`?); `exact`: expected `bool`",
        ),
    ],
)
def test_everything_that_is_wrong_is_told_at_once(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ToolError) as caught:
        convert_arguments(given, PARAMETERS)
    lines = str(caught.value).split("\n")
    assert lines[0].startswith("Wrong arguments: ")
    assert said in lines[0]
    assert lines[1] == (
        "Expected: query (string, required); limit (integer); exact (boolean); tags (array or null);"
        " where (object or integer)."
    )


def test_arguments_that_are_nested_without_end_are_told() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ToolError, match=r"nested too deeply|expected"):
        convert_arguments({"query": "x", "tags": value}, PARAMETERS)


def test_choices_and_bounds_are_named() -> None:
    def book(color: Literal["red", 2], nights: int = 1) -> None: ...

    parameters = parameters_from_function(book, skip_self=False, caller=sys._getframe())
    with pytest.raises(ToolError, match=r'color \(one of 2, "red", required\); nights \(integer\)'):
        convert_arguments({"color": "blue"}, parameters)
