"""What does a plain turn cost, beside one bare request and beside the agent runtimes of others?

    python benchmarks/plain_turn.py                # 1 to 5,000 sessions at once; ten minutes
    python benchmarks/plain_turn.py --short        # 10 and 100 sessions, ourselves and the limits; about 15 s
    python benchmarks/plain_turn.py --peers        # also the peers that `make bench-peers` installed, at 10 and 100
    python benchmarks/plain_turn.py --at 100       # only that many at once
    python benchmarks/plain_turn.py --delay 1 --at 1000            # the model takes a second
    python benchmarks/plain_turn.py --at 100 --beside ../other     # our code beside that of another checkout, no limits
    python benchmarks/plain_turn.py --at 100 --only nanobot        # only subjects with that in their names

Microseconds of the subject's CPU per turn; the model is a process on the other core. Each turn is persisted in the
subject's natural store: ours is SQLite with durability `fast`. `times` is the median relative to one request of httpx,
without an agent, in the same call: of the client as shipped or of one without limits of connections, whichever is cheaper.
"""

from __future__ import annotations

import argparse

import msgspec

from benchmarks._harness import report
from benchmarks._model import fast_model
from benchmarks._subjects import Figures, Subject, measure, peers_installed

BASELINES = [
    Subject("httpx as shipped, default limits", "httpx_default"),
    Subject("httpx without limits", "httpx_unlimited"),
]
OURS = [
    Subject("nanobot, trio", "nanobot_trio"),
    Subject("nanobot, asyncio", "nanobot_asyncio"),
]
TUNED = Subject("nanobot, trio, garbage collected seldom", "nanobot_trio_gc")
LIMITS = [
    *BASELINES,
    Subject("httpx without limits, trio", "httpx_unlimited_trio"),
    Subject("httpx over our transport", "httpx_our_transport"),
    Subject("our transport", "our_transport"),
    Subject("h11 on a trio socket", "h11_trio"),
    Subject("bare socket", "bare_socket"),
]
SLOW_AT = 1_000  # httpx looks at all its connections, or all who wait for one, at each event


def turns_for(sessions: int) -> int:
    """So many turns that a round has something to measure and a session stays short."""
    return 10 if sessions < 1_000 else 3


def subjects_of(options: argparse.Namespace, sessions: int) -> list[Subject]:
    """Who is measured at so many sessions."""
    if options.beside:
        found = [
            *OURS,
            *(Subject(f"{s.name}, beside", s.program, checkout=options.beside) for s in OURS),
        ]
    else:
        found = [*OURS, *LIMITS]
        if not options.short:
            found.append(TUNED)
        if options.peers:
            found += peers_installed()
    if sessions > SLOW_AT:
        found = [s for s in found if not s.program.startswith(("httpx_default", "httpx_unlimited"))]
    if options.delay:
        found = [msgspec.structs.replace(s, path=f"delay={options.delay:g}") for s in found]
    return [s for s in found if not options.only or any(part in s.name for part in options.only)]


def cheaper(figures: dict[str, Figures]) -> float | None:
    """The median of the baseline to compare with."""
    medians = [figures[s.name].median_cpu_us for s in BASELINES if s.name in figures]
    return min(medians, default=None)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="under 15 s")
    parser.add_argument("--peers", action="store_true", help="the agent runtimes of others too")
    parser.add_argument("--at", type=int, action="append", help="sessions at once")
    parser.add_argument("--delay", type=float, default=0, help="seconds that the model takes")
    parser.add_argument("--beside", help="the folder of another checkout of this project")
    parser.add_argument("--only", action="append", help="a part of a subject's name")
    parser.add_argument("--rounds", type=int, help="rounds of each subject")
    options = parser.parse_args()
    loads = options.at or (
        [10, 100] if options.short or options.peers else [1, 10, 100, 1_000, 5_000]
    )
    rounds = options.rounds or (2 if options.short else 5)
    with fast_model() as base_url:
        for sessions in loads:
            turns = 1 if options.delay else turns_for(sessions)
            figures = measure(
                subjects_of(options, sessions),
                base_url,
                sessions=sessions,
                turns=turns,
                rounds=rounds,
            )
            baseline = cheaper(figures)
            for name, of in figures.items():
                facts = {"sessions": sessions, "turns": turns, "model_takes_s": options.delay}
                if baseline is not None:
                    facts["times"] = round(of.median_cpu_us / baseline, 2)
                facts["wall_s"] = round(of.median_wall_us * sessions * turns / 1e6, 2)
                facts["peak_rss_mb"] = round(of.peak_rss_mb)
                report("plain_turn", name, of.cpu_us, "CPU us per turn", **facts)


if __name__ == "__main__":
    main()
