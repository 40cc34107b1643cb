"""What the server has counted of HTTP, and how Prometheus reads it. Pure.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

__all__ = ["CONTENT_TYPE", "Metrics", "Sample", "exposition"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

BUCKETS_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""From what needs no model to what needs many of its answers."""

Sample: TypeAlias = tuple[str, Mapping[str, str], float]
"""A suffix of the metric's name, labels, and the value."""


class Metrics:
    """Counts requests and what they took. Only ever grows."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._seconds: dict[str, list[int]] = {}
        self._seconds_sum: Counter[str] = Counter()

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that is over. `status` is 499 if its client left before it was answered."""
        self._requests[route, method, status] += 1
        buckets = self._seconds.setdefault(route, [0] * (len(BUCKETS_S) + 1))
        buckets[bisect_left(BUCKETS_S, seconds)] += 1
        self._seconds_sum[route] += seconds  # type: ignore[assignment]  # a Counter adds floats just as well

    def text(self) -> str:
        """All of it in Prometheus' text format."""
        return "".join(
            (
                exposition(
                    "nanobot_http_requests_total",
                    "counter",
                    "HTTP requests answered; status 499: the client left before.",
                    (
                        ("", {"route": route, "method": method, "status": str(status)}, count)
                        for (route, method, status), count in sorted(self._requests.items())
                    ),
                ),
                exposition(
                    "nanobot_http_request_duration_seconds",
                    "histogram",
                    "From the head of a request to the end of its answer.",
                    self._histogram(),
                ),
            )
        )

    def _histogram(self) -> Iterable[Sample]:
        for route, buckets in sorted(self._seconds.items()):
            count = 0
            for bound, inside in zip((*map(str, BUCKETS_S), "+Inf"), buckets, strict=True):
                count += inside
                yield "_bucket", {"route": route, "le": bound}, count
            yield "_sum", {"route": route}, self._seconds_sum[route]
            yield "_count", {"route": route}, count


def exposition(name: str, kind: str, help_text: str, samples: Iterable[Sample]) -> str:
    """One metric with its samples, as lines of text."""
    lines = [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
    for suffix, labels, value in samples:
        told = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
        shown = f"{value:d}" if isinstance(value, int) else repr(float(value))
        lines.append(f"{name}{suffix}{{{told}}} {shown}" if told else f"{name}{suffix} {shown}")
    return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
