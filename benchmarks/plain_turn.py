"""What does a plain turn cost, beside one bare request and beside the agent runtimes of others?

    python benchmarks/plain_turn.py                # 1 to 5,000 sessions at once; ten minutes
    python benchmarks/plain_turn.py --short        # 10 and 100 sessions, ourselves and the limits; about 15 s
    python benchmarks/plain_turn.py --peers        # also the peers that `make bench-peers` installed, at 10 and 100
    python benchmarks/plain_turn.py --at 100       # only that many at once

Microseconds of the subject's CPU per turn; the model is a process on the other core. Each turn is persisted in the
subject's natural store: ours is SQLite with durability `fast`. `times` is the median relative to one request of httpx as
shipped, without an agent, in the same call.
"""

from __future__ import annotations

import argparse

from benchmarks._harness import report
from benchmarks._model import fast_model
from benchmarks._subjects import Subject, measure, peers_installed

BASELINE = "httpx as shipped"
OURS = [
    Subject("nanobot, trio", "nanobot_trio"),
    Subject("nanobot, asyncio", "nanobot_asyncio"),
]
LIMITS = [
    Subject(BASELINE, "httpx_shipped"),
    Subject("httpx as shipped, trio", "httpx_shipped_trio"),
    Subject("httpx over our transport", "httpx_our_transport"),
    Subject("our transport", "our_transport"),
    Subject("h11 on a trio socket", "h11_trio"),
    Subject("bare socket", "bare_socket"),
]
SLOW_AT = 1_000  # httpx as shipped looks at all its connections at each event


def turns_for(sessions: int) -> int:
    """So many turns that a round has something to measure and a session stays short."""
    return 10 if sessions < 1_000 else 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="under 15 s")
    parser.add_argument("--peers", action="store_true", help="the agent runtimes of others too")
    parser.add_argument("--at", type=int, action="append", help="sessions at once")
    options = parser.parse_args()
    loads = options.at or (
        [10, 100] if options.short or options.peers else [1, 10, 100, 1_000, 5_000]
    )
    rounds = 2 if options.short else 5
    peers = peers_installed() if options.peers else []
    with fast_model() as base_url:
        for sessions in loads:
            subjects = [*OURS, *LIMITS, *peers]
            if sessions > SLOW_AT:
                subjects = [s for s in subjects if "shipped" not in s.name]
            figures = measure(
                subjects, base_url, sessions=sessions, turns=turns_for(sessions), rounds=rounds
            )
            baseline = figures.get(BASELINE)
            for name, of in figures.items():
                facts = {"sessions": sessions, "turns": turns_for(sessions)}
                if baseline is not None:
                    facts["times"] = round(of.median_cpu_us / baseline.median_cpu_us, 2)
                facts["peak_rss_mb"] = round(of.peak_rss_mb)
                report("plain_turn", name, of.cpu_us, "CPU us per turn", **facts)


if __name__ == "__main__":
    main()
