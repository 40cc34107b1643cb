"""A run's result: a dataclass like any other, whose messages are made when somebody asks for them."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from nanobot import RunResult
from nanobot.messages import Message, SystemMessage, UserMessage

SAID: tuple[Message, ...] = (SystemMessage("be kind"), UserMessage("hello"))
SHOWN = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]


def made() -> RunResult:
    result = RunResult("hi", tools_used=["look"])
    result._messages_from(SAID)
    return result


def test_messages_are_made_once_and_belong_to_whoever_has_the_result() -> None:
    result = made()
    assert result.messages == SHOWN
    assert result.messages is result.messages
    result.messages.pop()
    assert result.messages == SHOWN[:1]


def test_what_is_said_after_the_result_is_not_in_it() -> None:
    said: list[Message] = list(SAID)
    result = RunResult("hi")
    result._messages_from(said)
    said.append(UserMessage("and now?"))
    assert result.messages == SHOWN


def test_it_compares_copies_and_travels_with_its_messages() -> None:
    assert made() == RunResult("hi", tools_used=["look"], messages=SHOWN)
    assert made() != RunResult("hi", tools_used=["look"])
    for other in (
        copy.copy(made()),
        copy.deepcopy(made()),
        pickle.loads(pickle.dumps(made())),
        dataclasses.replace(made(), content="hi"),
    ):
        assert other == made()
        assert other.messages == SHOWN
    assert "be kind" in repr(made())


def test_one_that_is_made_by_hand_has_the_messages_it_was_given() -> None:
    assert RunResult("hi").messages == []
    result = RunResult("hi", messages=SHOWN)
    assert result.messages is SHOWN
    result.messages = []
    assert result.messages == []


def test_what_is_not_there_is_not_there() -> None:
    with pytest.raises(AttributeError, match="'RunResult' object has no attribute 'mesages'"):
        made().mesages  # type: ignore[attr-defined]  # noqa: B018
