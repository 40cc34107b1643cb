"""Awaiting with another value in one variable, in a context that others share."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from nanobot.telemetry._stepwise import Stepwise

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")

Body = Callable[[], Coroutine[Any, Any, Any]]


def stepwise(body: Body, value: str) -> Stepwise[Any]:
    return Stepwise(body(), value, get=VARIABLE.get, set=VARIABLE.set, reset=VARIABLE.reset)


async def awaited(body: Body, value: str) -> Any:
    return await stepwise(body, value)


def test_two_in_one_context_do_not_see_each_others_value() -> None:
    seen: list[str] = []

    def body_of(name: str) -> Body:
        async def body() -> str:
            for _ in range(3):
                assert VARIABLE.get() == name
                token = VARIABLE.set(f"{name} deeper")
                await asyncio.sleep(0)
                assert VARIABLE.get() == f"{name} deeper"
                VARIABLE.reset(token)
                await asyncio.sleep(0)
            VARIABLE.set("left behind")
            seen.append(name)
            return name

        return body

    async def main() -> None:
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(awaited(body_of(name), name), context=context) for name in ("a", "b")
        ]
        assert await asyncio.gather(*tasks) == ["a", "b"]
        assert context.run(VARIABLE.get) == "outside"

    asyncio.run(main())
    assert sorted(seen) == ["a", "b"]


def test_errors_go_through_both_ways() -> None:
    async def raises() -> None:
        await asyncio.sleep(0)
        raise ValueError("mine")

    async def main() -> None:
        with pytest.raises(ValueError, match="mine"):
            await stepwise(raises, "x")
        assert VARIABLE.get() == "outside"

    asyncio.run(main())


def test_a_cancel_reaches_what_is_awaited_and_may_be_survived() -> None:
    heard: list[str] = []

    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:  # noqa: ASYNC103 - surviving it is the point
            heard.append(VARIABLE.get())
            await asyncio.sleep(0)
        return "survived"

    async def main() -> None:
        task = asyncio.create_task(awaited(stubborn, "x"))
        await asyncio.sleep(0)
        task.cancel()
        assert await task == "survived"

    asyncio.run(main())
    assert heard == ["x"]


def test_one_that_is_dropped_is_closed() -> None:
    heard: list[str] = []

    async def body() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            heard.append(VARIABLE.get())

    running = awaited(body, "x")
    running.send(None)
    running.close()
    assert heard == ["x"]
    assert VARIABLE.get() == "outside"
