"""An evaluation: many cases at once, each in a session of its own, and a line of JSON for each as it ends.

A case that fails stops no other. Ctrl-C ends all of them, and leaves the lines that are there.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

from nanobot import Nanobot

AT_ONCE = 20


@dataclass
class Case:
    name: str
    question: str
    is_right: Callable[[str], bool]


@dataclass
class Outcome:
    case: str
    right: bool
    content: str
    error: str | None
    total_tokens: int
    latency_ms: int


CASES = [
    Case("files", "Which files are in the workspace?", lambda text: "notes.txt" in text),
    Case("greeting", "Hello!", lambda text: "hello" in text.lower()),
    Case("impossible", "Please fail.", lambda text: True),
]


async def evaluate(bot: Nanobot, case: Case, places: asyncio.Semaphore) -> Outcome:
    async with places:
        result = await bot.run(
            case.question, session_key=f"eval:{case.name}", ephemeral=True, timeout_s=120
        )
    outcome = Outcome(
        case.name,
        result.error is None and case.is_right(result.content),
        result.content,
        result.error,
        result.usage.get("total_tokens", 0),
        result.metadata.get("latency_ms", 0),
    )
    print(json.dumps(asdict(outcome)), flush=True)
    return outcome


async def main() -> None:
    places = asyncio.Semaphore(AT_ONCE)
    async with Nanobot.from_config() as bot, asyncio.TaskGroup() as group:
        tasks = [group.create_task(evaluate(bot, case, places)) for case in CASES]
    outcomes = [task.result() for task in tasks]
    right = sum(outcome.right for outcome in outcomes)
    print(f"{right} of {len(outcomes)} right", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main())
