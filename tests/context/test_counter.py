"""Tokens are counted exactly where the extra is installed, and never long in the event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from nanobot.context import LazyCounter, count_ahead, estimate_text, exact_counter
from nanobot.messages import UserMessage


async def test_there_is_always_a_counter_and_it_stays_the_same() -> None:
    counter = LazyCounter()
    count = await counter()
    assert count is await counter()
    assert count("hello world") > 0


async def test_with_the_extra_it_is_exact() -> None:
    exact = exact_counter()
    if exact is None:
        pytest.skip("needs the extra `tokens`")
    count = await LazyCounter()()
    assert count is not estimate_text
    assert count("hello world") == exact("hello world") == 2


def remembering() -> tuple[Callable[[str], int], list[str]]:
    threads: list[str] = []

    def count(text: str) -> int:
        threads.append(threading.current_thread().name)
        return len(text)

    return count, threads


async def test_much_is_counted_in_a_thread_and_little_where_it_is_needed() -> None:
    count, threads = remembering()
    await count_ahead([UserMessage("short")], count)
    assert threads == []
    await count_ahead([UserMessage("x" * 30_000)], count)
    await count_ahead([UserMessage("x" * 1_000)] * 30, count)
    assert len(threads) == 31
    assert threading.current_thread().name not in threads
