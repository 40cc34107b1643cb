"""Fills in the tables of docs/performance.md from benchmarks/results/.

    python docs/generate/performance_page.py

The rest of the page is written by hand; what is made here stands between two comments that say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks._goals import judged, unmeasured
from benchmarks._groups import GROUPS
from benchmarks._results import Results

PAGE = Path(__file__).parents[1] / "performance.md"
LOADS = (1, 10, 100, 1_000, 5_000)

REASONS: dict[str, str] = {
    "bytes written, turn 1,000 against turn 10": (
        "A turn writes 50 kB, and up to 378 when the search index merges its parts, in short and long sessions alike:"
        " in the same call the median was 62 kB after 10 messages and 49 after 5,000."
    ),
    "process start to first answer, nanobot agent -m": "The command line itself takes 30 ms of it.",
}
"""Why a goal is not met, by its text; said as long as it is not."""


def page() -> str:
    """The whole page, its tables as the results have them now."""
    text = PAGE.read_text("utf-8")
    results = Results.of_folder()
    for name, block in BLOCKS.items():
        begin, end = (
            f"<!-- {name}: made by docs/generate/performance_page.py -->",
            f"<!-- end of {name} -->",
        )
        before, _, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        assert ended, f"{PAGE} has no place for {name}"
        text = "\n".join([before + begin, *block(results), end + after])
    return text


def goals(results: Results) -> Iterator[str]:
    """Each goal and its figure."""
    yield "\n| | goal | measured | |\n|---|---|--:|---|"
    question = ""
    for one in judged(results):
        goal = one.goal
        heading = f"**{goal.question}**" if goal.question != question else ""
        question = goal.question
        wanted = f"{goal.text}: {goal.wanted}" if goal.limit is not None else goal.text
        says = {True: "met", False: "**not met**", None: ""}[one.met]
        yield f"| {heading} | {wanted} | {one.measured} | {says} |"
    yield ""


def missed(results: Results) -> Iterator[str]:
    """The goals that are not met, with the reason."""
    missed = [one for one in judged(results) if one.met is False]
    yield ""
    if not missed:
        yield "Nothing of what was measured."
    for one in missed:
        goal = one.goal
        reason = REASONS.get(goal.text, "")
        line = f"- {goal.question}, {goal.text}: {one.measured} instead of {goal.wanted}."
        yield f"{line} {reason}".rstrip()
    unseen = Counter(goal.question for goal in unmeasured(results))
    if unseen:
        counts = ", ".join(f"{question} ({count})" for question, count in unseen.items())
        yield f"- Goals that nothing was measured for here: {counts}."
    yield ""


def turns(results: Results) -> Iterator[str]:
    """What a turn, or a request, costs at each number of sessions."""
    yield "\n| CPU per turn, µs | " + " | ".join(f"{load:,} at once" for load in LOADS) + " |"
    yield "|---|" + "--:|" * len(LOADS)
    for group in GROUPS:
        yield f"| **{group.title}** |" + " |" * len(LOADS)
        for subject in group.subjects:
            cells = [_cell(results, subject, load) for load in LOADS]
            if any(cells):
                yield f"| {_with_version(results, subject)} | {' | '.join(cells)} |"
    yield ""


def setting(results: Results) -> Iterator[str]:
    """Where and with what the figures were measured."""
    lines = results.lines
    machines = sorted({line["machine"] for line in lines})
    versions = sorted(
        {f"{name} {number}" for line in lines for name, number in line["versions"].items()}
    )
    loads = sorted(line["load_1min"] for line in lines)
    cpu_us = results.figure("plain_turn", "the model itself", unit="CPU us per request")
    rate = results.figure("plain_turn", "the model itself", unit="requests per s")
    yield (
        f"\nThese figures are from {', '.join(machines)}; {', '.join(versions)}. The machine's load, this measuring included, "
        f"was {loads[0]} to {loads[-1]}, in the middle {loads[len(loads) // 2]}. The model's own process took {cpu_us:.0f} µs "
        f"of its core per request, so that it could answer {1e6 / cpu_us:,.0f} in a second; a bare socket asked it "
        f"{rate:,.0f} times in a second.\n"
    )


BLOCKS: dict[str, Callable[[Results], Iterator[str]]] = {
    "goals": goals,
    "missed": missed,
    "turns": turns,
    "setting": setting,
}


def _cell(results: Results, subject: str, sessions: int) -> str:
    try:
        cost = results.figure("plain_turn", subject, sessions=sessions, model_takes_s=0)
    except LookupError:
        return ""
    return f"{cost:,.0f}"


def _with_version(results: Results, subject: str) -> str:
    versions = {
        line["version"]
        for line in results.lines
        if line["subject"] == subject and "version" in line
    }
    return " ".join([subject, *(f"({version})" for version in versions if version not in subject)])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
