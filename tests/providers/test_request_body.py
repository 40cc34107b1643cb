"""What becomes of odd values on their way into a request."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from nanobot.messages import FilePart
from nanobot.providers._request_body import (
    file_reference,
    fitting_call_id,
    fitting_tool_name,
    json_bytes,
    legal_arguments,
    merged,
)

LEGAL = re.compile(r"[a-zA-Z0-9_-]{1,64}")

any_text = st.text(st.characters(codec=None, exclude_categories=()))
any_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | any_text,
    lambda inner: st.lists(inner) | st.dictionaries(any_text, inner),
    max_leaves=10,
)


@given(any_json)
def test_every_value_becomes_json(value: object) -> None:
    json.loads(json_bytes(value))


def test_halves_of_characters_are_joined_or_replaced_and_nothing_else_is() -> None:
    assert json.loads(json_bytes(["\ud83d\ude00", "a\ud83d", {"\ud83d": ("ä", 1)}])) == [
        "\U0001f600",
        "a\ufffd",
        {"\ufffd": ["ä", 1]},
    ]


def test_objects_are_merged_and_all_else_is_replaced() -> None:
    ours = {"a": {"b": 1, "c": {"d": 2}}, "e": [1], "f": {"g": 1}}
    theirs = {"a": {"c": {"x": 3}, "y": 4}, "e": [2], "f": None}
    assert merged(ours, theirs) == {
        "a": {"b": 1, "c": {"d": 2, "x": 3}, "y": 4},
        "e": [2],
        "f": None,
    }
    assert ours == {"a": {"b": 1, "c": {"d": 2}}, "e": [1], "f": {"g": 1}}


@given(any_text)
def test_arguments_are_always_an_object(arguments: str) -> None:
    assert isinstance(json.loads(legal_arguments(arguments)), dict)


@given(any_text, any_text)
def test_ids_fit_stay_apart_and_are_always_the_same(one: str, other: str) -> None:
    assert LEGAL.fullmatch(fitting_call_id(one, LEGAL))
    assert (fitting_call_id(one, LEGAL) == fitting_call_id(other, LEGAL)) == (one == other)
    if LEGAL.fullmatch(one):
        assert fitting_call_id(one, LEGAL) == one


@given(any_text)
def test_names_fit(name: str) -> None:
    assert LEGAL.fullmatch(fitting_tool_name(name))
    if LEGAL.fullmatch(name):
        assert fitting_tool_name(name) == name


def test_a_file_is_mentioned_by_its_path_and_type() -> None:
    assert file_reference(FilePart("a.pdf", "application/pdf")) == "[file: a.pdf, application/pdf]"
    assert file_reference(FilePart("b")) == "[file: b]"
