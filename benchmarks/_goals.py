"""Where we want to be: each goal as a figure of the results and the most, or the least, that it may be.

A ratio is of two figures that were measured in one call, rounds interleaved, so that machines can be compared by it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec import Struct

from benchmarks._results import Results
from benchmarks._subjects import PEERS

__all__ = ["GOALS", "Goal", "Judged", "judged", "unmeasured"]


class Goal(Struct, frozen=True):
    """One figure that we want, in its unit (`×` for a ratio)."""

    question: str
    text: str
    figure: Callable[[Results], float]
    """Raises LookupError if it was not measured."""
    limit: float | None
    """None: there is nothing to pass, the figure is to be seen."""
    unit: str
    at_least: bool = False

    @property
    def wanted(self) -> str:
        """The limit as text."""
        if self.limit is None:
            return "-"
        return f"{'≥' if self.at_least else '≤'} {self.limit:g} {self.unit}"


class Judged(Struct, frozen=True):
    """A goal and what was measured."""

    goal: Goal
    figure: float

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None if it has no limit."""
        if self.goal.limit is None:
            return None
        if self.goal.at_least:
            return self.figure >= self.goal.limit
        return self.figure <= self.goal.limit

    @property
    def measured(self) -> str:
        """The figure as text, three digits of it."""
        shown = f"{self.figure:,.0f}" if self.figure >= 100 else f"{self.figure:.3g}"
        return f"{shown} {self.goal.unit}"


def judged(results: Results) -> list[Judged]:
    """All goals whose figures are there."""
    found = []
    for goal in GOALS:
        try:
            found.append(Judged(goal, goal.figure(results)))
        except LookupError:
            continue
    return found


def unmeasured(results: Results) -> list[Goal]:
    """The goals whose figures are missing."""
    found = {one.goal.text for one in judged(results)}
    return [goal for goal in GOALS if goal.text not in found]


# --- a plain turn

OURS = "nanobot, trio"
BARE_HTTPX = ("httpx as shipped, default limits", "httpx without limits")
"""The cheaper of the two is compared: the one waits in its queue, the other looks at all its connections."""


def _turn(results: Results, subject: str, sessions: int) -> float:
    return results.figure("plain_turn", subject, sessions=sessions, model_takes_s=0)


def _of_a_request(sessions: int, results: Results) -> float:
    shipped, unlimited = BARE_HTTPX
    requests = [_turn(results, shipped, sessions)]
    try:
        requests.append(_turn(results, unlimited, sessions))
    except LookupError:
        pass  # it takes ten times as long as the other
    return _turn(results, OURS, sessions) / min(requests)


def _below(peers: tuple[str, ...], sessions: int, results: Results) -> float:
    costs = []
    for peer in peers:
        try:
            costs.append(_turn(results, peer, sessions))
        except LookupError:
            continue
    if not costs:
        raise LookupError("no peer was measured")
    return min(costs) / _turn(results, OURS, sessions)


def _flat(results: Results) -> float:
    costs = [_turn(results, OURS, sessions) for sessions in (10, 100, 1_000, 5_000)]
    return max(costs) / min(costs)


# --- the others


def _stream(host: str, streams: int, results: Results) -> float:
    return results.figure("stream_cost", f"200 deltas at once, {host}", streams=streams)


def _first_delta(host: str, results: Results) -> float:
    return results.figure("stream_cost", f"first delta of 50 paced streams, {host}")


def _tool_turn(results: Results) -> float:
    return results.figure("tool_turn", "a turn with one tool call over HTTP", "times")


def _slow_answers(host: str, count: int, results: Results) -> float:
    subject = f"{count:,} one-second answers at once, {host}"
    return results.figure("concurrent_answers", subject, "least")


def _live_session(count: int, results: Results) -> float:
    return results.figure("concurrent_answers", "a live session over its socket", sessions=count)


def _idle_sessions(results: Results) -> float:
    return results.figure("concurrent_answers", "a session idle for 31 s", "alive")


def _idle_kb(results: Results) -> float:
    held = results.figure("concurrent_answers", "a session idle for 31 s")
    return max(0.0, round(held / 1_000, 1))  # a few bytes are those of a dictionary that grew


def _import(results: Results) -> float:
    return results.figure("import_time", "import nanobot")


def _first_answer(how: str, results: Results) -> float:
    return results.figure("first_answer", how, unit="wall ms")


def _help(results: Results) -> float:
    return results.figure("cli_start", "nanobot --help", unit="wall ms")


def _cancel(how: str, results: Results) -> float:
    return results.figure("cancel_latency", f"{how}, to_closed", "p99")


def _leaks(results: Results) -> float:
    left = results.figure("cancel_latency", "left alive")
    if results.figure("cancel_latency", "left alive", "cancels") < 100_000:
        raise LookupError("too few cancels to tell")
    return left


def _growth(what: str, results: Results) -> float:
    return results.figure("session_growth", f"turn 1,000 of a session, {what}", "times")


def _longest_wait(policy: str, results: Results) -> float:
    subject = f"{policy}, 10 % override"
    kinds = ("longest_ordinary_ms", "longest_override_ms")
    return max(results.figure("override_lock", subject, kind) for kind in kinds)


def _bridge(sessions: int, results: Results) -> float:
    return results.figure("bridge", "nanobot, asyncio", "times", sessions=sessions)


def _timers(host: str, results: Results) -> float:
    free = results.figure("bridge", "timers while the host's loop is free", "p99")
    return max(0.0, results.figure("bridge", f"timers while the host's loop {host}", "p99") - free)


NANOBOT_AI = "nanobot-ai latest"
HOSTS = ("trio", "asyncio")
CANCELS = (
    "RunStream.cancel(), trio",
    "RunStream.cancel(), asyncio",
    "the caller of bot.run(), trio",
    "the caller of bot.run(), asyncio",
)

GOALS = [
    *(
        Goal(
            "Plain turn",
            f"{sessions:,} sessions: CPU against one httpx request without an agent",
            partial(_of_a_request, sessions),
            limit,
            "×",
        )
        for sessions, limit in ((100, 0.5), (1_000, 0.333))
    ),
    Goal(
        "Plain turn", "against the fastest peer", partial(_below, tuple(PEERS), 100), 10, "×", True
    ),
    *(
        Goal(
            "Plain turn",
            f"against {NANOBOT_AI}, at {sessions} sessions",
            partial(_below, (NANOBOT_AI,), sessions),
            100,
            "×",
            True,
        )
        for sessions in (10, 100)
    ),
    Goal("Plain turn", "dearest against cheapest of 10 to 5,000 sessions", _flat, 1.3, "×"),
    *(
        Goal(
            "Streaming",
            f"CPU per event, {streams} at once, {host}",
            partial(_stream, host, streams),
            limit,
            "µs",
        )
        for host, limit in (("trio", 15), ("asyncio", 30))
        for streams in (1, 50, 500)
    ),
    *(
        Goal(
            "Streaming",
            f"first delta after it was written, 50 paced streams, {host}",
            partial(_first_delta, host),
            1,
            "ms",
        )
        for host in HOSTS
    ),
    Goal("Tool turn", "two requests and a call against a plain turn", _tool_turn, 2.2, "×"),
    *(
        Goal(
            "Slow model",
            f"{count:,} answers of one second at once, {host}",
            partial(_slow_answers, host, count),
            limit,
            "s",
        )
        for count, limit in ((1_000, 1.5), (5_000, 2.5), (10_000, 4))
        for host in HOSTS
    ),
    *(
        Goal(
            "Slow model",
            f"memory of a live session beside its socket, {count:,} at once",
            partial(_live_session, count),
            60,
            "kB",
        )
        for count in (1_000, 5_000)
    ),
    Goal("Slow model", "sessions alive of 1,000 idle for 31 s", _idle_sessions, 0, "alive"),
    Goal("Slow model", "memory of each session idle for 31 s", _idle_kb, 0, "kB"),
    Goal("Start", "`import nanobot`, CPU over Python itself", _import, 30, "ms"),
    *(
        Goal(
            "Start",
            f"process start to first answer, {how}",
            partial(_first_answer, how),
            350,
            "ms",
        )
        for how in ("no loop", "asyncio", "trio", "nanobot agent -m")
    ),
    Goal("Start", "`nanobot --help`", _help, 150, "ms"),
    *(
        Goal("Cancel", f"p99 to the connection closed, {how}", partial(_cancel, how), 5, "ms")
        for how in CANCELS
    ),
    Goal("Cancel", "left alive of 100,000 cancelled runs", _leaks, 0, "things"),
    Goal(
        "Long session",
        "turn 1,000 against turn 10, apart from sending the history",
        partial(_growth, "CPU"),
        1.5,
        "×",
    ),
    Goal(
        "Long session",
        "bytes written, turn 1,000 against turn 10",
        partial(_growth, "written"),
        1.1,
        "×",
    ),
    *(
        Goal(
            "Override lock",
            f"longest wait of any run, 10 % override, {policy}",
            partial(_longest_wait, policy),
            None,
            "ms",
        )
        for policy in ("exclusive", "isolated")
    ),
    *(
        Goal(
            "Bridge",
            f"asyncio against trio, {sessions:,} sessions",
            partial(_bridge, sessions),
            1.5,
            "×",
        )
        for sessions in (10, 100, 1_000)
    ),
    Goal(
        "Bridge",
        "timers later (p99) while the host's loop is blocked",
        partial(_timers, "is blocked"),
        5,
        "ms",
    ),
    Goal(
        "Bridge",
        "timers later (p99) while the host's loop computes and holds the interpreter",
        partial(_timers, "computes"),
        None,
        "ms",
    ),
]
"""In the order of the questions."""
