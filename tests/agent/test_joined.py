"""Pieces of text that came together are told together, to those who ask for it."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from nanobot import Nanobot
from nanobot.agent._joined import joined
from nanobot.messages import Delta, Finished, ReasoningDelta, TextDelta, ToolCallDelta
from nanobot.testing import Answer, ScriptedProvider

DELTAS = st.one_of(
    st.builds(TextDelta, st.text(min_size=1)),
    st.builds(ReasoningDelta, st.text(min_size=1)),
    st.builds(ToolCallDelta, st.integers(0, 3), arguments=st.text()),
    st.just(Finished("stop")),
)


def letters(batch: list[Delta]) -> list[object]:
    """Every letter with the kind of its delta, and all else as it is."""
    return [
        item
        for delta in batch
        for item in (
            [(type(delta), letter) for letter in delta.text]
            if isinstance(delta, (TextDelta, ReasoningDelta))
            else [delta]
        )
    ]


@given(st.lists(DELTAS))
def test_joined_deltas_say_the_same_in_the_same_order(batch: list[Delta]) -> None:
    together = [*joined(batch)]
    assert letters(together) == letters(batch)
    for one, other in itertools.pairwise(together):
        assert type(one) is not type(other) or not isinstance(one, (TextDelta, ReasoningDelta))


async def test_only_who_asks_for_it_gets_pieces_together() -> None:
    answer = Answer("one two three", reasoning="let me think")
    async with Nanobot.from_config(provider=ScriptedProvider([answer, answer])) as bot:
        told = []
        for join in (False, True):
            events = [event async for event in bot.stream("hi", join_deltas=join)]
            for kind in ("reasoning.delta", "text.delta"):
                told.append([event.delta for event in events if event.type == kind])
    assert [len(pieces) for pieces in told] == [3, 3, 1, 1]
    assert ["".join(pieces) for pieces in told] == ["let me think", "one two three"] * 2
