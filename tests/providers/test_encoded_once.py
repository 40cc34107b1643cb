"""What messages were encoded into is found again, one by one and as the beginning that a long history has in common."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Mapping
from typing import Any

import pytest

from nanobot.messages import AssistantMessage, ImagePart, Message, TextPart, UserMessage
from nanobot.providers._encoded_once import _FAR, _LONG, EncodedOnce


class Encoder:
    """Counts what is encoded."""

    def __init__(self) -> None:
        self.encoded: list[Message] = []
        self.once: EncodedOnce[str, str, str] = EncodedOnce("test", self._message, str)

    def _message(self, message: Message, _images: Mapping[str, str]) -> str:
        self.encoded.append(message)
        return f"<{message.content}>"

    def request(self, messages: list[Message]) -> list[Message]:
        """Encode a request, see that all of it is right, and return what had to be encoded."""
        self.encoded.clear()
        sought = self.once.look(messages)
        assert list(self.once.messages(sought, {})) == [f"<{m.content}>" for m in messages]
        assert sought.fresh == self.encoded
        return [*self.encoded]

    def remembered(self, messages: list[Message]) -> list[int]:
        """At which messages a beginning lies."""
        name = self.once._beginning
        return [place for place, message in enumerate(messages) if name in message.__dict__]


def said(count: int, start: int = 0) -> list[Message]:
    return [
        UserMessage(f"q{number}") if number % 2 == 0 else AssistantMessage(f"a{number}")
        for number in range(start, start + count)
    ]


@pytest.mark.parametrize("length", [0, 1, _LONG - 1, _LONG, 3 * _LONG])
def test_a_turn_encodes_what_is_new(length: int) -> None:
    encoder, history = Encoder(), said(length)
    assert encoder.request(history) == history
    for turn in range(5):
        new = said(2, 1_000 + 2 * turn)
        assert encoder.request([*history, new[0]]) == [new[0]]
        assert encoder.request([*history, *new]) == [new[1]]
        history += new
    assert len(encoder.remembered(history)) == (length + 10 >= _LONG)


def test_there_is_one_beginning_at_a_time_also_of_a_window_that_moves() -> None:
    encoder, history = Encoder(), said(3 * _LONG)
    for turn in range(20):
        history += said(2, 1_000 + 2 * turn)
        encoder.request(history[2 * turn :])
        assert len(encoder.remembered(history)) == (turn > 0)  # at first there is nothing to find


def test_more_than_is_looked_through_may_come_between() -> None:
    encoder, history = Encoder(), said(_LONG)
    encoder.request(history)
    history += said(2 * _FAR, 1_000)
    assert encoder.request(history) == history[_LONG:]
    assert encoder.request(history) == []


def test_what_was_changed_in_the_middle_is_sent_as_it_is_now() -> None:
    encoder, history = Encoder(), said(2 * _LONG)
    encoder.request(history)
    changed = [*history[:50], UserMessage("something else"), *history[51:]]
    assert encoder.request(changed) == [changed[50]]
    assert encoder.request(history) == []


def test_a_message_with_parts_is_encoded_each_time() -> None:
    encoder, history = Encoder(), said(2 * _LONG)
    parts = UserMessage((TextPart("look"), ImagePart("here.png")))
    history[70] = parts
    assert encoder.request(history) == history
    for _ in range(3):
        assert encoder.request(history) == [parts]
        assert encoder.request([*history, parts]) == [parts, parts]


def test_two_encodings_of_one_history_do_not_meet() -> None:
    one, history = Encoder(), said(2 * _LONG)
    other: EncodedOnce[str, int, str] = EncodedOnce("other", lambda m, _: len(str(m.content)), str)
    one.request(history)
    assert other.look(history).fresh == history
    assert one.request(history) == []


def test_a_history_that_nobody_has_any_more_is_gone() -> None:
    class Marked(UserMessage, frozen=True, dict=True, weakref=True):
        pass

    encoder = Encoder()
    history: list[Message] = [*said(2 * _LONG), Marked("last"), *said(1)]
    gone = weakref.ref(history[-2])
    encoder.request(history)
    encoder.request(history)
    gc.disable()
    try:
        del history
        encoder.encoded.clear()
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("seed", range(20))
def test_any_history_is_encoded_as_if_nothing_were_remembered(seed: int) -> None:
    dice = random.Random(seed)
    encoder = Encoder()
    pool: list[Message] = [*said(400), UserMessage((TextPart("parts"),))]
    history: list[Any] = [*pool[: dice.randrange(50, 300)]]
    for _ in range(30):
        match dice.randrange(5):
            case 0:
                history += dice.choices(pool, k=dice.randrange(1, 4))
            case 1:
                del history[-dice.randrange(1, 5) :]
            case 2:
                history[dice.randrange(len(history))] = dice.choice(pool)
            case 3:
                history = history[dice.randrange(3) :]
            case _:
                history += said(2, dice.randrange(10**6))
        encoder.request(history)
