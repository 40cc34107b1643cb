"""Tools of your own that use what belongs to one request: a database, the user who asks.

`deps` goes to tools and hooks as it is. It is never shown to the model and never stored.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

from nanobot import Nanobot, RunContext, tool
from nanobot.errors import ToolError


class Order(Struct):
    number: int
    owner: str
    status: str


@dataclass
class Shop:
    """What one request works with."""

    user: str
    orders: dict[int, Order]


@tool(read_only=True, timeout_s=5)
async def order_status(
    context: RunContext,
    number: Annotated[int, Meta(ge=1, description="The order's number.")],
) -> Order:
    """Look up an order of the user who asks."""
    shop: Shop = context.deps
    order = shop.orders.get(number)
    if order is None or order.owner != shop.user:  # what the model is told, and no more
        raise ToolError(f"There is no order {number} of this user.")
    return order


@tool
async def cancel_order(context: RunContext, number: int) -> str:
    """Cancel an order that was not sent yet."""
    shop: Shop = context.deps
    order = await order_status(context, number)
    if order.status == "sent":
        raise ToolError("It was sent already; tell the user how to return it.")
    order.status = "cancelled"
    return f"Order {number} of {shop.user} is cancelled."


async def main() -> None:
    orders = {7: Order(7, "alice", "packed"), 8: Order(8, "bob", "sent")}
    async with Nanobot.from_config(tools=[order_status, cancel_order]) as bot:
        for user, question in (("alice", "Cancel order 7."), ("alice", "Where is order 8?")):
            result = await bot.run(
                question,
                session_key=f"user:{user}",
                sender_id=user,
                deps=Shop(user, orders),
            )
            print(f"{user}: {result.content} {result.tools_used}")
    print("order 7:", orders[7].status)


if __name__ == "__main__":
    asyncio.run(main())
