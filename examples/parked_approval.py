"""An approval that may take days: one process asks, another decides, a third goes on. Nothing waits in between.

    python examples/parked_approval.py ask 7 500
    python examples/parked_approval.py list
    python examples/parked_approval.py approve ID      (or: deny ID "too much")
    python examples/parked_approval.py go-on

Any of them may be killed at any moment and run again: a refund is paid once, or is said to be in doubt.
"""

from __future__ import annotations

import asyncio
import sys

from nanobot import Nanobot, Park, RunResult, tool


@tool(approval="ask")
async def refund(order: int, amount: int) -> str:
    """Pay money back."""
    return f"{amount} paid back for order {order}"


def tell(session_key: str, result: RunResult) -> None:
    if result.stop_reason == "parked":
        print(f"{session_key} waits for approval {result.metadata['approval']['id']}")
    else:
        print(f"{session_key}: {result.error or result.content}")


async def ask(order: str, amount: str) -> None:
    async with Nanobot.from_config(tools=[refund], approver=Park()) as bot:
        key = f"order:{order}"
        tell(key, await bot.run(f"Refund {amount} for order {order}.", session_key=key))


async def go_on() -> None:
    """What a timer would run: go on with each turn about which somebody has decided, or nobody has in time."""
    async with Nanobot.from_config(tools=[refund], approver=Park()) as bot:
        for waiting in bot.approvals.list():
            if waiting.state != "waiting":
                tell(waiting.session_key, await bot.resume(waiting.session_key))


def look() -> None:
    with Nanobot.from_config() as bot:
        for waiting in bot.approvals.list():
            print(waiting.id, waiting.state, waiting.session_key, waiting.name, waiting.arguments)


def decide(command: str, approval_id: str, reason: str = "") -> None:
    with Nanobot.from_config() as bot:
        if command == "approve":
            decided = bot.approvals.approve(approval_id)
        else:
            decided = bot.approvals.deny(approval_id, reason)
        print(f"{decided.session_key}: {decided.state}")


def main() -> None:
    match sys.argv[1:]:
        case ["ask", order, amount]:
            asyncio.run(ask(order, amount))
        case ["list"]:
            look()
        case ["approve" | "deny" as command, approval_id, *reason]:
            decide(command, approval_id, *reason)
        case ["go-on"]:
            asyncio.run(go_on())
        case _:
            print(__doc__)


if __name__ == "__main__":
    main()
