"""A batch without an event loop: many letters at once, a typed value for each, progress, and no failure that stops the rest.

python examples/many_letters.py letters.txt      (one letter per line; without a file, three of its own)

Ctrl-C ends what runs, and keeps what was printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nanobot import Job, Nanobot
from nanobot.sdk import Progress

LETTERS = (
    "I would like two lamps and a chair by Christmas. Ada",
    "The lamp was broken when it came. Charles",
    "Best wishes from the seaside.",
)


@dataclass
class Letter:
    """What a letter says."""

    customer: str
    kind: str


def jobs(letters: list[str]) -> Iterator[Job]:
    """Taken one by one, when there is room: this could read a file of any length."""
    for letter in letters:
        yield {"message": f"What does this letter say?\n\n{letter}", "output_type": Letter}


def show(progress: Progress) -> None:
    print(f"{progress.done} done, {progress.failed} failed", file=sys.stderr)


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    letters = [*LETTERS] if path is None else path.read_text().splitlines()
    tokens = 0
    with Nanobot.from_config() as bot:
        for outcome in bot.run_many_sync(
            jobs(letters), concurrency=20, on_progress=show, ephemeral=True, timeout_s=120
        ):
            result, number = outcome.result, outcome.index + 1
            if result is None or not outcome.ok:
                print(f"{number}: {outcome.error}")
            else:
                letter: Letter = result.output
                print(f"{number}: {letter.kind} by {letter.customer}")
            tokens += 0 if result is None else result.usage.get("total_tokens", 0)
    print(f"{tokens} tokens", file=sys.stderr)


if __name__ == "__main__":
    main()
