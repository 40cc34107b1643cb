"""A repair changes what stands between the values, and never a value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.tools._repair import repair_object

TEXTS = st.text(alphabet="ab1 ,:{}[]\"'\\\n/é😀", max_size=8)
OBJECTS = st.dictionaries(
    st.text(alphabet="abc", min_size=1, max_size=3),
    st.recursive(
        st.one_of(TEXTS, st.integers(), st.booleans(), st.none(), st.floats(-1e9, 1e9)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.text(alphabet="xy", max_size=2), inner, max_size=2),
        ),
        max_leaves=5,
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("{'path': 'a.txt',}", {"path": "a.txt"}),
        ('{"path": "a.txt"', {"path": "a.txt"}),
        ('{"a": {"b": [true', {"a": {"b": [True]}}),
        ('{"a": 1}}', {"a": 1}),
        ('{"a": 1 "b": 2}', {"a": 1, "b": 2}),
        ("{a: 1, b_c: [1, 2,]}", {"a": 1, "b_c": [1, 2]}),
        ('{"a": True, "b": None, "c": False}', {"a": True, "b": None, "c": False}),
        ('{"a": "two\nlines\tand a tab"}', {"a": "two\nlines\tand a tab"}),
        (r'{"pattern": "\d+\w"}', {"pattern": r"\d+\w"}),
        (r"{'a': 'it\'s'}", {"a": "it's"}),
        ("{'a': \"it's\"}", {"a": "it's"}),
        ("{'a': 'say \"hi\"'}", {"a": 'say "hi"'}),
        ("{'a': '\\ud83d\\ude00 \\n'}", {"a": "😀 \n"}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ("```\n{'a': 1}```", {"a": 1}),
        ("{'n': -1.5e3}", {"n": -1500.0}),
    ],
)
def test_slips_that_leave_one_reading_are_repaired(text: str, meant: dict[str, Any]) -> None:
    assert repair_object(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        '{"path": "a',  # cut inside a value: half a file
        '{"limit": 20',  # perhaps 200
        '{"limit": 20,',
        '{"limit":',
        '{"limit"',
        '{"done": tru',
        '{"a": {',
        '{"a": [1, 2}',  # which bracket is wrong?
        '{"a": [1, 2], ]}',
        '{"a": "he said "hi" to me"}',  # where does the value end?
        "{'a': 'it's'}",
        '{"a": hello}',  # text, or a name of something?
        '{"a": 007}',
        '{"a": 1_000}',
        '{"a": .5}',
        '{"a": 0x10}',
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": 1e999}',
        '{"a": 1} and then {"b": 2}',
        '{"a": 1}{"b": 2}',
        'Here you are: {"a": 1}',
        '{"a": 1 // one\n}',
        '{"a" 1}',
        '{"a": "b" "c"}',
        '{"a": "x" + "y"}',
        r'{"path": "C:\new\Users"}',  # does the first backslash escape?
        '{"a": "\\ud800"}',
        "{'a': '\\ud800',}",
        '{"a": 1, "a": 2,}',
        "[{'a': 1}]",
        "'text'",
        "{}",
        "{,}",
        "",
        "hello",
        '{"a": 1,, "b": 2}',
        '{"a": [1,, 2]}',  # JavaScript has a hole there
        '{"a": ["x" "y"]}',  # Python has one string there
        '{"a": [1 2]}',
        '{, "a": 1}',
        '{"a": [,]}',
        '{"a": {"b": 1},',
        "{1: 2}",
        "{true : 2}",
        '{"a": "", "b" }',
        '{"a": 1}, {"b": 2}',
        '{"a": [1, {"b": 2], "c": 3}',
        '{"a":, 1}',
        '{"a":: 1}',
        '{"a": {"b": 1]}',
        '{"a": 1}, "b": 2}',
        "]",
        '"a": 1',
        "```",
        "``````",
        "```python\nprint()\n```",
        "{'a': " + "9" * 5000 + ",}",
        "{'a': " * 5000,
        "{'a': [" + "1," * 200_000 + "],}",
    ],
)
def test_what_leaves_a_choice_is_not_repaired(text: str) -> None:
    assert repair_object(text) is None


def test_line_breaks_in_a_long_text_are_repaired_at_any_length() -> None:
    text = "line\n" * 100_000
    assert repair_object('{"content": "' + text + '"}') == {"content": text}


@given(OBJECTS)
def test_what_is_valid_is_read_as_it_is(value: dict[str, Any]) -> None:
    assert repair_object(json.dumps(value)) == value
    assert repair_object(json.dumps(value, ensure_ascii=False)) == value


@given(OBJECTS)
def test_the_way_python_writes_a_dict_is_read_or_refused_but_never_changed(
    value: dict[str, Any],
) -> None:
    assert repair_object(repr(value)) in (
        value,
        None,
    )  # None: Python writes control characters in its own way


@given(OBJECTS, st.integers(1, 6))
def test_missing_brackets_at_the_end_are_added(value: dict[str, Any], count: int) -> None:
    text = json.dumps(value)
    stripped = text.rstrip("]}")
    cut = text[: max(len(stripped), len(text) - count)]
    repaired = repair_object(cut)
    # Refused is what ends in a number or null, for there might be more of it, and what json-repair leaves something out of.
    drops = any(empty in cut for empty in ("[[]", "[{}", ", []", ", {}"))
    assert repaired == value or (repaired is None and (cut[-1] not in '"]}e' or drops))


@given(OBJECTS, st.data())
def test_a_text_cut_anywhere_never_yields_a_value_that_was_not_written(
    value: dict[str, Any], data: st.DataObject
) -> None:
    text = json.dumps(value)
    repaired = repair_object(text[: data.draw(st.integers(0, len(text)))])
    if repaired is not None:
        for name, part in repaired.items():
            assert set(map(repr, leaves(part))) <= set(map(repr, leaves(value[name])))


@given(st.text(alphabet="{}[]:,\"'\\ab1 \n`tnu", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    repaired = repair_object(text)
    assert repaired is None or json.loads(json.dumps(repaired)) == repaired


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in leaves(part)]
    if isinstance(value, list):
        return [leaf for part in value for leaf in leaves(part)]
    return [value]
