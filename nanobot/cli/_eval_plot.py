"""The picture of an evaluation: when answers came, and how many were right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ._eval_results import Result, Summary
from ._failure import Failure

__all__ = ["draw"]

_RIGHT, _WRONG, _FAILED = "#2a7f62", "#c8553d", "#9a9a9a"


def draw(results: Sequence[Result], summary: Summary, path: Path) -> None:
    """Write a picture: on the left the score, on the right the latency of every case.

    Raises:
      Failure: The file cannot be written, or its ending names no kind of picture.
    """
    # Without pyplot, which keeps figures in global state and looks for a screen.
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 2.6))
    counts = (summary.right, summary.wrong, summary.failed)
    bars = left.bar(("right", "wrong", "failed"), counts, color=(_RIGHT, _WRONG, _FAILED))
    left.bar_label(bars)
    left.set_title(f"score {summary.score:.1%}", loc="left")
    for kind, name, colour in ((True, "right", _RIGHT), (False, "wrong", _WRONG)):
        points = [
            (number, result.latency_ms / 1000)
            for number, result in enumerate(results, start=1)
            if result.ok is kind
        ]
        if points:
            right.scatter(*zip(*points, strict=True), s=14, color=colour, label=name)
    right.axhline(summary.latency_median_ms / 1000, color="#555555", linewidth=0.8)
    right.set_title(f"latency in s, median {summary.latency_median_ms / 1000:.2f}", loc="left")
    right.set_xlabel("case")
    slowest = max((result.latency_ms for result in results), default=0.0) / 1000
    right.set_ylim(0, max(1.25 * slowest, 0.001))  # room for the legend
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    if summary.right or summary.wrong:
        right.legend(frameon=False, loc="upper right", ncols=2)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise Failure(f"{path} cannot be drawn: {error}") from error
