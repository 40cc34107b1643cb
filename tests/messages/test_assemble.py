"""Deltas folded into the message that history keeps, and what is mended on the way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nanobot.messages import (
    Assembler,
    AssistantMessage,
    Delta,
    Finished,
    ReasoningDelta,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageDelta,
)


def assembled(*deltas: Delta, seed: str = "") -> Assembler:
    assembler = Assembler(seed)
    assembler.feed(deltas)
    return assembler


def test_an_answer_with_everything_becomes_one_message() -> None:
    block = ThinkingBlock("thinking", "hm", "signature")
    assembler = assembled(
        ReasoningDelta("let me "),
        ReasoningDelta("see"),
        ThinkingDelta(block),
        TextDelta("Hel"),
        TextDelta("lo"),
        ToolCallDelta(0, "id0", "read"),
        ToolCallDelta(0, arguments='{"path":'),
        ToolCallDelta(0, arguments='"a"}', extra={"signature": "s"}),
        UsageDelta(Usage(1, 1, 2)),
        UsageDelta(Usage(1, 5, 6)),
        Finished("tool_calls"),
    )
    assert assembler.message() == AssistantMessage(
        content="Hello",
        tool_calls=(ToolCall("id0", "read", '{"path":"a"}', {"signature": "s"}),),
        reasoning="let me see",
        thinking=(block,),
    )
    assert assembler.usage == Usage(1, 5, 6)
    assert assembler.finish_reason == "tool_calls"
    assert assembler.tool_calls()[1] == ()


def test_nothing_yet_is_an_empty_message_without_a_reason() -> None:
    assembler = Assembler()
    assert assembler.message() == AssistantMessage()
    assert assembler.usage is None
    assert assembler.finish_reason is None


def test_a_partial_answer_can_be_taken_at_any_moment_and_marked() -> None:
    assembler = assembled(TextDelta("Hel"))
    assert assembler.message(interrupted=True) == AssistantMessage("Hel", interrupted=True)
    assembler.feed([TextDelta("lo"), Finished("stop")])
    assert assembler.message() == AssistantMessage("Hello")


def test_calls_come_in_the_order_of_their_index() -> None:
    assembler = assembled(
        ToolCallDelta(5, "b", "two"),
        ToolCallDelta(2, "a", "one", "{"),
        ToolCallDelta(5, arguments="{}"),
        ToolCallDelta(2, arguments="}"),
    )
    assert assembler.message().tool_calls == (ToolCall("a", "one"), ToolCall("b", "two"))


def test_a_call_without_arguments_has_an_empty_object_and_broken_ones_stay_as_written() -> None:
    assembler = assembled(
        ToolCallDelta(0, "a", "one"),
        ToolCallDelta(1, "b", "two", "  "),
        ToolCallDelta(2, "c", "three", ' {"cut": '),
    )
    written = [call.arguments for call in assembler.message().tool_calls]
    assert written == ["{}", "{}", ' {"cut": ']


def test_calls_without_a_usable_id_get_one_of_their_own_with_a_note() -> None:
    assembler = assembled(
        ToolCallDelta(0, "same", "one", '{"x":1}'),
        ToolCallDelta(1, "same", "one", '{"x":1}'),
        ToolCallDelta(2, "", "one", '{"x":1}'),
        ToolCallDelta(3, "", "one", '{"x":1}'),
    )
    calls, notes = assembler.tool_calls()
    assert calls[0].id == "same"
    assert len({call.id for call in calls}) == 4
    assert [note.split(";")[0] for note in notes] == [
        "tool call 1 (one) repeats the id 'same'",
        "tool call 2 (one) has no id",
        "tool call 3 (one) has no id",
    ]
    assert all(call.id in note for call, note in zip(calls[1:], notes, strict=True))


def test_made_ids_are_the_same_for_the_same_answer_and_differ_between_answers() -> None:
    delta = ToolCallDelta(0, "", "list_dir", "{}")
    (first,), (again,), (other,) = (
        assembled(delta, seed=seed).message().tool_calls for seed in ("run1:0", "run1:0", "run1:1")
    )
    assert first == again
    assert first.id != other.id
    assert len(first.id) <= 40


def test_a_call_without_a_name_is_dropped_with_a_note() -> None:
    assembler = assembled(ToolCallDelta(0, "a", " ", '{"x":1}'), ToolCallDelta(1, "b", "two"))
    calls, notes = assembler.tool_calls()
    assert calls == (ToolCall("b", "two"),)
    assert notes == ("""dropped tool call 0: it has no name (arguments '{"x":1}')""",)


names = st.sampled_from(["", " ", "read", "write", "\ud83d"])
ids = st.sampled_from(["", "a", "b", "call_1"])
fragments = st.lists(
    st.builds(
        ToolCallDelta, st.integers(0, 3), ids, names, st.sampled_from(["", "{", "}", '{"a":1}'])
    ),
    max_size=20,
)


@given(fragments, st.text(max_size=3))
def test_whatever_is_fed_every_call_has_a_name_and_an_id_of_its_own(
    deltas: list[ToolCallDelta], seed: str
) -> None:
    calls, _ = assembled(*deltas, seed=seed).tool_calls()
    assert len({call.id for call in calls}) == len(calls)
    assert all(call.id and call.name.strip() and call.arguments.strip() for call in calls)
    assert calls == assembled(*deltas, seed=seed).tool_calls()[0]


@given(st.lists(st.text(min_size=1, max_size=4), max_size=20), st.integers(min_value=0))
def test_how_deltas_are_batched_makes_no_difference(texts: list[str], at: int) -> None:
    deltas = [TextDelta(text) for text in texts]
    assembler = Assembler()
    at %= len(deltas) + 1
    assembler.feed(deltas[:at])
    assembler.feed(deltas[at:])
    assert assembler.message().content == "".join(texts)
