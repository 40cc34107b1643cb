"""Which call a fragment belongs to, from services that number their calls and from those that do not."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.messages import Assembler
from nanobot.providers.openai_chat import _wire
from nanobot.providers.openai_chat._tool_calls import ToolCallSorter


def assembled(fragments: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    sorter = ToolCallSorter()
    assembler = Assembler()
    for fragment in fragments:
        delta = sorter.sort(msgspec.convert(fragment, _wire.ToolCall))
        if delta is not None:
            assembler.feed([delta])
    calls, _ = assembler.tool_calls()
    return [(call.id, call.name, call.arguments) for call in calls]


def call(
    *,
    index: int | None = None,
    id: str | None = None,
    name: str | None = None,
    arguments: Any = None,
) -> dict[str, Any]:
    return {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}


TWO = [("a", "one", '{"x": 1}'), ("b", "two", '{"y": 2}')]


@pytest.mark.parametrize(
    "fragments",
    [
        pytest.param(
            [
                call(index=0, id="a", name="one", arguments=""),
                call(index=0, arguments='{"x":'),
                call(index=0, arguments=" 1}"),
                call(index=1, id="b", name="two", arguments=""),
                call(index=1, arguments='{"y": 2}'),
            ],
            id="as OpenAI does",
        ),
        pytest.param(
            [
                call(index=1, id="a", name="one", arguments='{"x":'),
                call(index=2, id="b", name="two", arguments='{"y": 2'),
                call(index=1, arguments=" 1}"),
                call(index=2, arguments="}"),
            ],
            id="interleaved, numbered from one",
        ),
        pytest.param(
            [
                call(id="a", name="one", arguments='{"x": 1}'),
                call(id="b", name="two", arguments='{"y": 2}'),
            ],
            id="whole calls without index",
        ),
        pytest.param(
            [
                call(id="a", name="one", arguments='{"x":'),
                call(arguments=" 1}"),
                call(id="b", name="two", arguments='{"y":'),
                call(arguments=" 2}"),
            ],
            id="fragments without index",
        ),
        pytest.param(
            [
                call(index=0, id="a", name="one", arguments='{"x": 1}'),
                call(index=0, id="b", name="two", arguments='{"y": 2}'),
            ],
            id="all with index 0",
        ),
        pytest.param(
            [
                call(index=0, id="a", name="one", arguments='{"x":'),
                call(index=0, id="a", name="one", arguments=" 1}"),
                call(index=1, id="b", name="two", arguments='{"y":'),
                call(index=1, id="b", name="two", arguments=" 2}"),
            ],
            id="id and name in every fragment",
        ),
        pytest.param(
            [
                call(index=0, id="a"),
                call(index=0, name="one"),
                call(index=0, arguments='{"x": 1}'),
                call(index=1, id="b", name="two", arguments='{"y": 2}'),
                {"index": 1},
                {"index": 1, "id": "", "function": None},
            ],
            id="in as many pieces as possible",
        ),
    ],
)
def test_two_calls_are_two_calls_however_they_are_sent(fragments: list[dict[str, Any]]) -> None:
    assert assembled(fragments) == TWO


def test_the_same_tool_called_twice_without_ids_is_two_calls() -> None:
    for index in (None, 0):
        calls = assembled(
            [
                call(index=index, name="read", arguments='{"path": "a"}'),
                call(index=index, name="read", arguments='{"path": "b"}'),
            ]
        )
        assert [arguments for _, _, arguments in calls] == ['{"path": "a"}', '{"path": "b"}']
        assert len({call_id for call_id, _, _ in calls}) == 2


def test_a_name_repeated_while_the_arguments_are_incomplete_is_the_same_call() -> None:
    calls = assembled(
        [
            call(index=0, name="read", arguments='{"path":'),
            call(index=0, name="read", arguments=' "a"}'),
        ]
    )
    assert [arguments for _, _, arguments in calls] == ['{"path": "a"}']


def test_arguments_sent_as_an_object_become_json_text() -> None:
    assert assembled([call(id="a", name="one", arguments={"x": 1})]) == [("a", "one", '{"x":1}')]


def test_id_and_name_are_told_once() -> None:
    sorter = ToolCallSorter()
    fragment = msgspec.convert(call(index=0, id="a", name="one", arguments="{"), _wire.ToolCall)
    first, second = sorter.sort(fragment), sorter.sort(fragment)
    assert first is not None
    assert second is not None
    assert (first.id, first.name) == ("a", "one")
    assert (second.id, second.name, second.arguments) == ("", "", "{")


def test_a_signature_travels_with_its_call() -> None:
    sorter = ToolCallSorter()
    wire = call(index=0, id="a", name="one") | {"extra_content": {"google": {"signature": "s"}}}
    delta = sorter.sort(msgspec.convert(wire, _wire.ToolCall))
    assert delta is not None
    assert delta.extra == {"extra_content": {"google": {"signature": "s"}}}


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=3), max_size=4),
    st.lists(st.integers(min_value=0), max_size=8),
    st.booleans(),
)
def test_calls_survive_any_fragmentation(
    arguments: list[dict[str, int]], cuts: list[int], numbered: bool
) -> None:
    fragments = []
    for number, value in enumerate(arguments):
        text = json.dumps(value)
        index = number if numbered else None
        fragments.append(call(index=index, id=f"id{number}", name="tool", arguments=""))
        edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
        fragments += [
            call(index=index, arguments=text[start:end]) for start, end in pairwise(edges)
        ]
    assert [json.loads(found) for _, _, found in assembled(fragments)] == arguments
