"""The subjects of a plain turn by their kind, as the chart and the page on performance show them."""

from __future__ import annotations

from msgspec import Struct

from benchmarks._subjects import PEERS

__all__ = ["GROUPS", "Group"]


class Group(Struct, frozen=True):
    """Subjects that are of one kind."""

    title: str
    subjects: tuple[str, ...]


GROUPS = (
    Group("Other agent runtimes, with their stores", tuple(PEERS)),
    Group("nanobot, with its store", ("nanobot, trio", "nanobot, asyncio")),
    Group(
        "One HTTP request alone: no agent, no store",
        (
            "httpx as shipped, default limits",
            "httpx without limits",
            "httpx over our transport",
            "h11 on a trio socket",
            "our transport",
            "bare socket",
        ),
    ),
)
"""From the top down."""
