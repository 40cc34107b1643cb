"""An evaluation: many cases at once, each in a session of its own, and a line of JSON for each as it ends.

A case that fails stops no other. Ctrl-C ends all of them, and leaves the lines that are there.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

from nanobot import Job, JobOutcome, Nanobot

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


def scored(case: Case, answered: JobOutcome) -> Outcome:
    result = answered.result
    if result is None:  # the run raised: a bug, or a case that cannot be meant
        return Outcome(case.name, False, "", answered.error, 0, 0)
    return Outcome(
        case.name,
        answered.ok and case.is_right(result.content),
        result.content,
        answered.error,
        result.usage.get("total_tokens", 0),
        result.metadata.get("latency_ms", 0),
    )


async def main() -> None:
    jobs: list[Job] = [
        {"message": case.question, "session_key": f"eval:{case.name}"} for case in CASES
    ]
    right = 0
    async with Nanobot.from_config() as bot:
        async for answered in bot.run_many(
            jobs, concurrency=AT_ONCE, ephemeral=True, timeout_s=120
        ):
            outcome = scored(CASES[answered.index], answered)
            right += outcome.right
            print(json.dumps(asdict(outcome)), flush=True)
    print(f"{right} of {len(CASES)} right", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main())
