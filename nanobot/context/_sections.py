"""A named piece of the system prompt, and the one place where pieces become a text."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

__all__ = ["Section", "join_sections"]


class Section(Struct, frozen=True, gc=False):
    """One topic of the system prompt. A section without text is not shown."""

    title: str
    text: str


def join_sections(sections: Iterable[Section]) -> str:
    """Join the sections in the order given, each under its title; what changes least belongs first.

    A provider caches the longest prefix that is equal byte for byte, so a change costs everything behind it.
    """
    return "\n\n".join(
        f"# {section.title}\n{section.text}" if section.title else section.text
        for section in sections
        if section.text
    )
