"""Tool calls that a model prints as text: which text is one, wherever it is cut, and which stays text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.messages import Assembler, Delta
from nanobot.providers.openai_chat._decode import AnswerDecoder
from nanobot.providers.openai_chat._printed_calls import PrintedCall, PrintedCalls

OFFERED = frozenset({"read_file", "list_dir"})
CALL = '{"name": "read_file", "arguments": {"path": "a.txt"}}'
READ = PrintedCall("read_file", '{"path":"a.txt"}')
LIST = PrintedCall("list_dir", "{}")

PRINTED: dict[str, tuple[str, tuple[PrintedCall, ...]]] = {
    f"<tool_call>\n{CALL}\n</tool_call>": ("", (READ,)),
    f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>": ("", (READ, READ)),
    f"Let me look.\n<tool_call>{CALL}</tool_call>": ("Let me look.\n", (READ,)),
    f"<tool_call>{CALL}": ("", (READ,)),  # its end was taken for an end of the answer
    f"\n```json\n{CALL}\n```\n": ("", (READ,)),
    f"```\n{CALL}\n```": ("", (READ,)),
    CALL: ("", (READ,)),
    f"  {CALL}\n": ("", (READ,)),
    '{"name": "list_dir", "parameters": {}}': ("", (LIST,)),
    '{"type": "function", "function": {"name": "list_dir", "arguments": "{}"}}': ("", (LIST,)),
    f'[{CALL}, {{"name": "list_dir", "arguments": {{}}}}]': ("", (READ, LIST)),
}
TEXTS = [
    "The weather is fine.",
    "",
    "   ",
    "{",
    "`code` and ```fences``` in a text",
    "<tool_call> is how a model calls",
    "<tool_call>{not json}</tool_call>",
    '{"name": "Anna", "arguments": {}}',  # an object, and no tool of ours
    '{"name": "read_file"}',
    '{"name": "read_file", "arguments": [1]}',
    '{"name": ["read_file"], "arguments": {}}',
    '{"name": "read_file", "arguments": "not json"}',
    f"{CALL} and that is how it is called.",
    f"Use this:\n```json\n{CALL}\n```",
    f"<tool_call>{CALL}</tool_call> and some words",
    f'[{CALL}, {{"name": "unknown", "arguments": {{}}}}]',
    "[]",
    "```python\nprint(1)\n```",
    "a <b> c",
    "ends with <tool_",
    "{" * 5000,
]


def fed(pieces: list[str]) -> tuple[str, tuple[PrintedCall, ...]]:
    printed = PrintedCalls(OFFERED)
    told = "".join(map(printed.feed, pieces))
    held, calls = printed.end()
    return (told, calls) if calls else (told + held, ())


@pytest.mark.parametrize("text", PRINTED)
def test_a_printed_call_is_a_call_wherever_it_is_cut(text: str) -> None:
    for at in range(len(text) + 1):
        assert fed([text[:at], text[at:]]) == PRINTED[text]
    assert fed(list(text)) == PRINTED[text]


@pytest.mark.parametrize("text", TEXTS)
def test_everything_else_is_text_to_the_letter(text: str) -> None:
    for at in range(0, len(text) + 1, max(1, len(text) // 100)):
        assert fed([text[:at], text[at:]]) == (text, ())
    assert fed(list(text)) == (text, ())


@given(st.lists(st.sampled_from([*"<tol_ca>{}`\n x", "<tool_call>", CALL, "```"]), max_size=12))
def test_no_text_is_lost_and_none_is_made_up(pieces: list[str]) -> None:
    told, calls = fed(pieces)
    whole = "".join(pieces)
    assert fed([whole]) == (told, calls)
    assert whole.startswith(told) if calls else told == whole


def test_an_ordinary_answer_is_not_held_back() -> None:
    printed = PrintedCalls(OFFERED)
    assert [printed.feed(piece) for piece in ("The ", "weather ", "< 5 ")] == [
        *("The ", "weather ", "< 5 ")
    ]


def decoded(
    text: str, *, offered: frozenset[str], reason: str = "stop", calls: bool = False
) -> Assembler:
    decoder = AnswerDecoder(provider="acme", printed_calls_of=offered)
    deltas: list[Delta] = []
    for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
        decoder.feed(json.dumps({"choices": [{"delta": {"content": piece}}]}).encode(), "", deltas)
    if calls:
        call = {"index": 0, "id": "c", "function": {"name": "list_dir", "arguments": "{}"}}
        decoder.feed(
            json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}).encode(), "", deltas
        )
    end = {"choices": [{"delta": {}, "finish_reason": reason}]}
    decoder.feed(json.dumps(end).encode(), "", deltas)
    assembler = Assembler("seed")
    assembler.feed([*deltas, *decoder.end()])
    return assembler


def test_a_printed_call_ends_the_answer_as_a_call_does() -> None:
    answer = decoded(f"<think>hm</think>{CALL}", offered=OFFERED)
    assert answer.finish_reason == "tool_calls"
    message = answer.message()
    assert (message.content, message.reasoning) == ("", "hm")
    (call,) = message.tool_calls
    assert (call.name, call.arguments) == ("read_file", '{"path":"a.txt"}')
    assert call.id


def test_where_the_entry_does_not_say_so_or_no_tool_is_offered_it_is_text() -> None:
    answer = decoded(CALL, offered=frozenset())
    assert (answer.message().content, answer.finish_reason) == (CALL, "stop")


def test_a_call_that_was_cut_off_or_stands_beside_a_real_one_is_text() -> None:
    cut = decoded(CALL, offered=OFFERED, reason="length")
    assert (cut.message().content, cut.finish_reason) == (CALL, "length")
    both = decoded(CALL, offered=OFFERED, reason="tool_calls", calls=True)
    assert both.message().content == CALL
    assert [call.name for call in both.message().tool_calls] == ["list_dir"]
