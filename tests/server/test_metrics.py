"""What Prometheus is told can be read back as what happened."""

from __future__ import annotations

import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from nanobot.server._metrics import BUCKETS_S, Metrics, exposition

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


def test_runs_and_their_tokens_are_counted() -> None:
    metrics = Metrics()
    metrics.run("completed", {"prompt_tokens": 10, "completion_tokens": 5})
    metrics.run("cancelled", {})
    metrics.run("completed", {"prompt_tokens": 1})
    samples = read(metrics.text())
    assert samples["nanobot_runs_total", frozenset({("stop_reason", "completed")})] == 2
    assert samples["nanobot_tokens_total", frozenset({("kind", "prompt")})] == 11
