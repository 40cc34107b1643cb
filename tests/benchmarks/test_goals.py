"""Goals are judged by the figures that the results have, and said to be unmeasured where they have none."""

from __future__ import annotations

from typing import Any

from benchmarks._goals import GOALS, judged, unmeasured
from benchmarks._results import Results

OVER_HTTPX = "100 sessions: CPU against one httpx request without an agent"


def turn(subject: str, median: float, sessions: int = 100) -> dict[str, Any]:
    line = {"name": "plain_turn", "subject": subject, "median": median, "sessions": sessions}
    return {**line, "model_takes_s": 0}


HTTPX = [turn("httpx as shipped, default limits", 1_000), turn("httpx without limits", 1_500)]


def test_a_ratio_is_to_the_cheaper_httpx_and_met_up_to_its_limit() -> None:
    for ours, met in ((500, True), (501, False)):
        [of_httpx] = judged(Results([turn("nanobot, trio", ours), *HTTPX]))
        assert of_httpx.goal.text == OVER_HTTPX
        assert of_httpx.figure == ours / 1_000
        assert of_httpx.met is met


def test_of_peers_the_fastest_counts_and_must_cost_so_much_at_least() -> None:
    for fastest, met in ((5_000, True), (4_999, False)):
        peers = [turn("agno", 9_000), turn("langgraph", fastest)]
        found = judged(Results([turn("nanobot, trio", 500), *peers]))
        [of_peers] = [one for one in found if one.goal.text == "against the fastest peer"]
        assert of_peers.figure == fastest / 500
        assert of_peers.met is met


def test_what_nobody_measured_is_not_judged() -> None:
    nothing = Results([])
    assert judged(nothing) == []
    assert unmeasured(nothing) == GOALS


def test_each_goal_has_a_text_of_its_own() -> None:
    assert len({goal.text for goal in GOALS}) == len(GOALS)
