"""Draw what a plain turn costs, ours and that of others, from benchmarks/results/: what `make bench-plot` runs.

    python benchmarks/_plot.py                     # docs/images/performance.svg
    python benchmarks/_plot.py picture.png         # another place, another format
    python benchmarks/_plot.py picture.png black   # on a page of that color, to look at

Text and marks have colors of middle lightness and stand on nothing, so that they can be read on a light page and on a dark one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from msgspec import Struct

from benchmarks._groups import GROUPS, Group
from benchmarks._results import Results

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "performance.svg"
GREY = "#74808c"
OURS = "#6577ee"
COLORS = ("#cf6a32", OURS, "#2a9187")
"""Of the groups."""
LOADS = {10: ("o", 22.0), 100: ("o", 64.0), 1_000: ("D", 26.0)}
"""The mark of each number of sessions at once, and its area in square points."""
MAIN_LOAD = 100
"""What rows are sorted by."""
REFERENCE = "nanobot, trio"


class Row(Struct, frozen=True):
    """One subject: its microseconds at each number of sessions, as far as it was measured."""

    name: str
    cost_us: dict[int, float]


def rows_of(group: Group, results: Results) -> list[Row]:
    """The subjects of a group that were measured, the dearest first."""
    found = []
    for subject in group.subjects:
        costs = {}
        for load in LOADS:
            try:
                costs[load] = results.figure("plain_turn", subject, sessions=load, model_takes_s=0)
            except LookupError:
                continue
        if MAIN_LOAD in costs:
            found.append(Row(subject, costs))
    return sorted(found, key=lambda row: -row.cost_us[MAIN_LOAD])


def duration(us: float) -> str:
    """Two digits and a unit."""
    if us >= 1_000:
        return f"{us / 1_000:.1f} ms" if us < 10_000 else f"{us / 1_000:.0f} ms"
    return f"{us:.0f} µs"


def ratio(times: float) -> str:
    """How many times as much, with two digits."""
    if times >= 100:
        return f"{round(times, -1):.0f}×"
    if times >= 10:
        return f"{times:.0f}×"
    return f"{times:.1f}×" if times >= 1 else f"{times:.2f}×"


def labelled(name: str, results: Results) -> str:
    """The subject's name, a peer's with its version."""
    versions = {
        line["version"] for line in results.lines if line["subject"] == name and "version" in line
    }
    short = name.removesuffix(" latest").removesuffix(" 0.2.2").removesuffix(", default limits")
    return " ".join([short, *sorted(versions)])


def draw(axes: Axes, results: Results) -> Iterator[float]:
    """Draw all groups from the top down; yields the height of each row."""
    reference_us = results.figure("plain_turn", REFERENCE, sessions=MAIN_LOAD, model_takes_s=0)
    beside = axes.get_yaxis_transform()
    y = 0.0
    for group, color in zip(GROUPS, COLORS, strict=True):
        rows = rows_of(group, results)
        if not rows:
            continue
        y -= 1.25
        axes.text(-0.41, y, group.title, color=color, weight="bold", transform=beside, va="center")
        for row in rows:
            y -= 1
            costs = row.cost_us
            axes.plot(
                [min(costs.values()), max(costs.values())],
                [y, y],
                color=color,
                lw=1.4,
                alpha=0.55,
            )
            for load, (mark, area) in LOADS.items():
                if load in costs:
                    filled = color if load == MAIN_LOAD else "none"
                    axes.scatter(
                        costs[load],
                        y,
                        s=area,
                        marker=mark,
                        facecolor=filled,
                        edgecolor=color,
                        zorder=3,
                    )
            main_us = costs[MAIN_LOAD]
            bold = "bold" if row.name == REFERENCE else "normal"
            put: dict[str, Any] = {
                "color": GREY,
                "transform": beside,
                "va": "center",
                "weight": bold,
            }
            axes.text(-0.39, y, labelled(row.name, results), **put)
            axes.text(1.14, y, duration(main_us), ha="right", **put)
            axes.text(1.31, y, ratio(main_us / reference_us), ha="right", **put)
            yield y
    axes.axvline(reference_us, color=OURS, lw=1, ls=(0, (2, 3)), zorder=0)


def picture(results: Results) -> Figure:
    """The whole of it."""
    figure = Figure(figsize=(9.2, 6.2))
    axes = figure.add_axes((0.235, 0.085, 0.55, 0.86))
    heights = list(draw(axes, results))
    axes.set_ylim(min(heights) - 0.8, 0.6)
    axes.set_xscale("log")
    axes.set_xlim(right=axes.get_xlim()[1] * 1.1)
    axes.xaxis.set_major_formatter(lambda us, _: duration(us).replace(".0 ", " "))
    axes.tick_params(axis="x", which="both", color=GREY, labelcolor=GREY, length=0)
    axes.set_yticks([])
    axes.grid(axis="x", which="major", color=GREY, alpha=0.25, lw=0.8)
    axes.spines[:].set_visible(False)
    axes.patch.set_visible(False)
    axes.set_xlabel("CPU time per turn, logarithmic", color=GREY)
    put: dict[str, Any] = {
        "color": GREY,
        "transform": axes.get_yaxis_transform(),
        "va": "center",
        "ha": "right",
    }
    axes.text(1.14, 0.2, "at 100", **put)
    axes.text(1.31, 0.2, "to nanobot", **put)
    marks = [
        axes.scatter(
            [],
            [],
            s=area,
            marker=mark,
            facecolor=GREY if load == MAIN_LOAD else "none",
            edgecolor=GREY,
            label=f"{load:,} sessions at once",
        )
        for load, (mark, area) in LOADS.items()
    ]
    axes.legend(
        handles=marks,
        loc="lower center",
        bbox_to_anchor=(0.5, 0.985),
        ncols=3,
        frameon=False,
        labelcolor=GREY,
        handletextpad=0.1,
        columnspacing=1.4,
    )
    return figure


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    page = sys.argv[2] if len(sys.argv) > 2 else "none"
    # Text stays text, and nothing in the file tells when it was made: the same figures give the same file.
    mpl.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "performance",
            "font.size": 10,
            "font.family": "sans-serif",
        }
    )
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    picture(Results.of_folder()).savefig(path, metadata=metadata, facecolor=page, dpi=110)


if __name__ == "__main__":
    main()
