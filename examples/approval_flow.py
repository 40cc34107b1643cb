"""A tool that is run only after somebody in front of the terminal has agreed to it."""

from __future__ import annotations

import asyncio

from nanobot import ApprovalRequest, Approved, Denied, Nanobot, tool


@tool(approval="ask")
async def refund(order: int, amount: int) -> str:
    """Pay money back."""
    return f"{amount} paid back for order {order}"


async def ask_at_the_terminal(request: ApprovalRequest) -> Approved | Denied:
    """Other runs go on while somebody thinks: only a thread waits for the line."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in request.arguments.items())
    print(f"{request.session_key} wants {request.name}({arguments})")
    answer = await asyncio.to_thread(input, "yes, or why not: ")
    return Approved() if answer.strip() == "yes" else Denied(answer or "no reason was given")


async def main() -> None:
    async with Nanobot.from_config(tools=[refund], approver=ask_at_the_terminal) as bot:
        for order, amount in ((7, 20), (8, 500)):
            result = await bot.run(
                f"Refund {amount} for order {order}.", session_key=f"order:{order}", timeout_s=600
            )
            print(result.content)


if __name__ == "__main__":
    asyncio.run(main())
