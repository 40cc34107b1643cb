"""What does a plain turn cost, beside one bare request and beside the agent runtimes of others?

    python benchmarks/plain_turn.py                # 1 to 5,000 sessions at once; ten minutes
    python benchmarks/plain_turn.py --short        # 10 and 100 sessions, ourselves and three limits; about 12 s
    python benchmarks/plain_turn.py --peers        # also the peers (make bench-peers), at 10, 100 and 1,000; an hour
    python benchmarks/plain_turn.py --at 100       # only that many at once
    python benchmarks/plain_turn.py --delay 1 --at 1000            # the model takes a second
    python benchmarks/plain_turn.py --at 100 --beside ../other     # our code beside that of another checkout, no limits
    python benchmarks/plain_turn.py --at 100 --only nanobot        # only subjects with that in their names

Microseconds of the subject's CPU per turn; the model is a process on the other core. Each turn is persisted in the
subject's natural store: ours is SQLite with durability `fast`. `times` is the median relative to one request of httpx,
without an agent, in the same call: of the client as shipped or of one without limits of connections, whichever is cheaper.

The first lines tell what the model's own process takes of its core for a request of a bare socket, and how many of these there
were in a second: who is measured is slower than that, or the model would be what is measured.
"""

from __future__ import annotations

import argparse

import msgspec

from benchmarks._harness import options, report
from benchmarks._model import cpu_seconds, fast_model
from benchmarks._subjects import Figures, Subject, measure, peers_installed

BASELINES = [
    Subject("httpx as shipped, default limits", "httpx_default"),
    Subject("httpx without limits", "httpx_unlimited"),
]
OURS = [
    Subject("nanobot, trio", "nanobot_trio"),
    Subject("nanobot, asyncio", "nanobot_asyncio"),
]
BARE = Subject("bare socket", "bare_socket")
LIMITS = [
    *BASELINES,
    Subject("httpx without limits, trio", "httpx_unlimited_trio"),
    Subject("httpx over our transport", "httpx_our_transport"),
    Subject("our transport", "our_transport"),
    Subject("h11 on a trio socket", "h11_trio"),
    BARE,
]
IN_MANY = {"nanobot_trio", "nanobot_asyncio", "our_transport"}
"""Who is measured past `SLOW_AT`."""
IN_SHORT = {"httpx_default", "our_transport", "bare_socket"}
"""The limits that the short mode has time for."""
PEER_ROUNDS = {10: 5, 100: 3, 1_000: 1}
"""Where peers are measured, and in how many rounds at most: one of them can take minutes."""
SLOW_AT = 1_000  # httpx looks at all its connections, or all who wait for one, at each event


def turns_for(sessions: int) -> int:
    """So many turns that a round has something to measure and a session stays short."""
    return 10 if sessions < 1_000 else 3


def subjects_of(asked: argparse.Namespace, sessions: int) -> list[Subject]:
    """Who is measured at so many sessions."""
    if asked.beside:
        found = [
            *OURS,
            *(Subject(f"{s.name}, beside", s.program, checkout=asked.beside) for s in OURS),
        ]
    else:
        found = [*OURS, *LIMITS]
        if asked.short:
            found = [*OURS, *(s for s in LIMITS if s.program in IN_SHORT)]
        if asked.peers and sessions in PEER_ROUNDS:
            rounds = PEER_ROUNDS[sessions]
            found += [msgspec.structs.replace(peer, rounds=rounds) for peer in peers_installed()]
    if sessions > SLOW_AT:  # nor has a process descriptors for the connections of all
        found = [s for s in found if s.program in IN_MANY]
    if asked.delay:
        found = [msgspec.structs.replace(s, path=f"delay={asked.delay:g}") for s in found]
    return [s for s in found if not asked.only or any(part in s.name for part in asked.only)]


def cheaper(figures: dict[str, Figures]) -> float | None:
    """The median of the baseline to compare with."""
    medians = [figures[s.name].median_cpu_us for s in BASELINES if s.name in figures]
    return min(medians, default=None)


def ceiling(base_url: str, rounds: int) -> None:
    """Measure the model itself."""
    sessions, turns = 100, 50
    requests = sessions * (turns + 1) * rounds
    before_s = cpu_seconds(base_url)
    bare = measure([BARE], base_url, sessions=sessions, turns=turns, rounds=rounds, warm_s=0)[
        BARE.name
    ]  # whose rounds are counted here
    model_us = (cpu_seconds(base_url) - before_s) / requests * 1e6
    facts = {"sessions": sessions, "asked_by": BARE.name}
    report("plain_turn", "the model itself", [model_us], "CPU us per request", **facts)
    rates = [1e6 / wall_us for wall_us in bare.wall_us]
    report("plain_turn", "the model itself", rates, "requests per s", **facts)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--peers", action="store_true", help="the agent runtimes of others too")
    parser.add_argument("--at", type=int, action="append", help="sessions at once")
    parser.add_argument("--delay", type=float, default=0, help="seconds that the model takes")
    parser.add_argument("--beside", help="the folder of another checkout of this project")
    parser.add_argument("--only", action="append", help="a part of a subject's name")
    parser.add_argument("--rounds", type=int, help="rounds of each subject")
    asked = parser.parse_args()
    loads = asked.at or ([10, 100] if asked.short else [1, 10, 100, 1_000, 5_000])
    rounds = asked.rounds or (2 if asked.short else 5)
    with fast_model() as base_url:
        ceiling(base_url, rounds)
        for sessions in loads:
            turns = 1 if asked.delay else 5 if asked.short else turns_for(sessions)
            figures = measure(
                subjects_of(asked, sessions),
                base_url,
                sessions=sessions,
                turns=turns,
                rounds=rounds,
            )
            baseline = cheaper(figures)
            for name, of in figures.items():
                facts = {"sessions": sessions, "turns": turns, "model_takes_s": asked.delay}
                if baseline is not None:
                    facts["times"] = round(of.median_cpu_us / baseline, 2)
                facts["wall_s"] = round(of.median_wall_us * sessions * turns / 1e6, 2)
                facts["peak_rss_mb"] = round(of.peak_rss_mb)
                if of.version:
                    facts["version"] = of.version
                report("plain_turn", name, of.cpu_us, "CPU us per turn", **facts)


if __name__ == "__main__":
    main()
