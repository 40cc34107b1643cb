"""What Prometheus is told can be read back as what happened."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nanobot.errors import MalformedStream
from nanobot.runtime import LATENCY_BOUNDS_S, RuntimeStatistics, TurnTotals
from nanobot.server._metrics import BUCKETS_S, Metrics, exposition
from nanobot.server._runtime_metrics import runtime_text
from nanobot.testing import ScriptedProvider
from tests.sdk.test_problem import Down
from tests.server.servers import make_bot, serving

LABEL = re.compile(r'(\w+)="((?:[^"\\\n]|\\.)*)"')
SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")


def read(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """A reader of the text format, small and strict."""
    samples = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        labels = frozenset(
            (name, value.replace(r"\"", '"').replace(r"\n", "\n").replace("\\\\", "\\"))
            for name, value in LABEL.findall(match[2] or "")
        )
        samples[match[1], labels] = float(match[3])
    return samples


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["/health", "/v1/models"]),
            st.sampled_from([200, 499]),
            st.floats(0, 1000),
        )
    )
)
def test_requests_are_counted_by_status_and_by_duration(
    requests: list[tuple[str, int, float]],
) -> None:
    metrics = Metrics()
    for route, status, seconds in requests:
        metrics.request(route, "GET", status, seconds)
    samples = read(metrics.text())
    for (route, status), count in Counter((route, status) for route, status, _ in requests).items():
        labels = {("route", route), ("method", "GET"), ("status", str(status))}
        assert samples["nanobot_http_requests_total", frozenset(labels)] == count
    name = "nanobot_http_request_duration_seconds"
    for route in {route for route, _, _ in requests}:
        took = [seconds for where, _, seconds in requests if where == route]
        for bound in BUCKETS_S:
            labels = {("route", route), ("le", str(bound))}
            expected = sum(seconds <= bound for seconds in took)
            assert samples[f"{name}_bucket", frozenset(labels)] == expected
        assert samples[f"{name}_bucket", frozenset({("route", route), ("le", "+Inf")})] == len(took)
        assert samples[f"{name}_count", frozenset({("route", route)})] == len(took)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_label_may_be_any_text(label: str) -> None:
    text = exposition("m", "gauge", "Help.", [("", {"l": label}, 1)])
    assert text.startswith("# HELP m Help.\n# TYPE m gauge\n")
    assert text.count("\n") == 3
    escaped = label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    assert f'm{{l="{escaped}"}} 1\n' in text


async def test_a_server_whose_store_is_gone_is_not_ready_and_says_no_more(tmp_path: Path) -> None:
    bot = make_bot(tmp_path, ScriptedProvider([]))
    async with bot, serving(bot) as served:
        served.bot.runtime._store = Down()
        answer = await served.client.get("/ready")
        assert (await served.client.get("/health")).status_code == 200
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert error["code"] == "not_ready"
    assert error["message"] == "The server is not ready: the store cannot be used."


async def test_what_the_runtime_says_of_itself_is_what_prometheus_reads(tmp_path: Path) -> None:
    refused = MalformedStream("no", provider="scripted")
    bot = make_bot(tmp_path, ScriptedProvider(["One.", refused, "Two."]))
    async with bot, serving(bot) as served:
        for _ in range(3):
            await served.chat("Hi")
        ready = (await served.client.get("/ready")).json()
        samples = read((await served.client.get("/metrics")).text)
        told = served.bot.runtime.statistics()
    assert told.turns.ended == 3
    assert ready == {"status": "ready", "sessions": 1, "running": 0, "queued": 0}

    def value(name: str, **labels: str) -> float:
        return samples[f"nanobot_{name}", frozenset(labels.items())]

    assert value("turns_total", outcome="completed") == 2
    assert value("turns_total", outcome="failed") == told.turns.failed == 1
    assert value("turns_total", outcome="cancelled") == 0
    assert value("tokens_total", kind="prompt") == told.turns.prompt_tokens > 0
    assert value("tokens_total", kind="completion") == told.turns.completion_tokens > 0
    assert value("turn_duration_seconds_count") == 3
    assert value("turn_duration_seconds_sum") == told.turns.latency_s > 0
    assert value("turn_duration_seconds_bucket", le="+Inf") == 3
    assert value("sessions") == 1
    assert value("runs", state="running") == value("lock_exclusive") == 0


@given(
    st.lists(
        st.integers(0, 50), min_size=len(LATENCY_BOUNDS_S) + 1, max_size=len(LATENCY_BOUNDS_S) + 1
    )
)
def test_the_buckets_of_turns_add_up(counts: list[int]) -> None:
    turns = TurnTotals(ended=sum(counts), latency_counts=(*counts,))
    samples = read(runtime_text(RuntimeStatistics(turns=turns)))
    for position, bound in enumerate((*map(str, LATENCY_BOUNDS_S), "+Inf")):
        key = "nanobot_turn_duration_seconds_bucket", frozenset({("le", bound)})
        assert samples[key] == sum(counts[: position + 1])
