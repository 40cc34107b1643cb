"""What a type checker knows of a decorated function. mypy reads this file; running it only shows that it is true."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, assert_type

from nanobot.tools import Cross, FunctionTool, RunContext, Tool, run_here, tool


@tool
async def fetch(url: str, times: int = 1) -> bytes:
    return url.encode() * times


@tool(name="count_letters", read_only=True)
def count(text: str) -> int:
    return len(text)


class Shop:
    @tool
    async def price(self, item: str) -> float:
        return 1.0 * len(item)

    @tool(timeout_s=1)
    def names(self, context: RunContext, prefix: str = "") -> list[str]:
        return [prefix]


async def test_a_decorated_function_is_called_and_typed_like_the_function() -> None:
    fetching: Coroutine[Any, Any, bytes] = fetch("a")
    assert_type(await fetching, bytes)
    assert_type(await fetch("a", times=2), bytes)
    assert_type(count("abc"), int)
    assert count(text="abc") == 3


async def test_a_decorated_method_is_typed_without_its_instance(context: RunContext) -> None:
    shop = Shop()
    assert_type(await shop.price("tea"), float)
    assert_type(shop.names(context, prefix="a"), list[str])
    bound: Callable[[str], Coroutine[Any, Any, float]] = shop.price
    assert await bound("tea") == 3.0


def test_all_of_them_are_tools() -> None:
    tools: list[Tool] = [fetch, count, Shop().price, Shop().names]
    assert [each.spec.name for each in tools] == ["fetch", "count_letters", "price", "names"]
    way: Cross = run_here
    assert way is run_here


async def wrong_calls_are_seen_by_the_type_checker() -> None:
    """Never run: each ignore is an error that mypy must find, or it complains that the ignore is unused."""
    await fetch(1)  # type: ignore[arg-type]
    count("a", "b")  # type: ignore[call-arg]
    await Shop().price(3)  # type: ignore[arg-type]
    as_int: FunctionTool[[str], str] = count  # type: ignore[assignment]
    del as_int
