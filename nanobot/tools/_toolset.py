"""The tools that one run offers to the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nanobot.errors import UsageError
from nanobot.messages import ToolSpec

from ._tool import FunctionTool, Tool

__all__ = ["Toolset"]


class Toolset:
    """Tools by name, in the order they were given. Immutable.

    Attributes:
      specs: What the model is told, sorted by name: the same tools in any order give the same prompt, so that it
        stays cached.

    Raises:
      UsageError: Two tools have the same name, or something is no tool.
    """

    __slots__ = ("_by_name", "specs")

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._by_name: dict[str, Tool] = {}
        for tool in tools:
            _check(tool)
            name = tool.spec.name
            if (other := self._by_name.get(name)) is not None:
                raise UsageError(
                    f"Two tools are called {name!r}: {other.origin} and {tool.origin}. Give one another name with"
                    " @tool(name=...)."
                )
            self._by_name[name] = tool
        self.specs: tuple[ToolSpec, ...] = tuple(
            self._by_name[name].spec for name in sorted(self._by_name)
        )

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __repr__(self) -> str:
        return f"Toolset({', '.join(self._by_name)})"

    @property
    def names(self) -> tuple[str, ...]:
        """The tools' names, in order."""
        return tuple(self._by_name)

    def get(self, name: str) -> Tool | None:
        """The tool of that name, spelled exactly so."""
        return self._by_name.get(name)

    def without(self, name: str) -> Toolset:
        """These tools, but for the one of that name."""
        return Toolset(tool for tool in self if tool.spec.name != name)

    def with_tools(self, more: Iterable[Tool]) -> Toolset:
        """These tools, and `more` after them."""
        return Toolset([*self, *more])


def _check(tool: Tool) -> None:
    if isinstance(tool, FunctionTool) and tool.needs_instance:
        raise UsageError(
            f"{tool.origin} is a method without its instance; pass it as tools=[instance.method]."
        )
    if not all(
        hasattr(tool, attribute) for attribute in ("spec", "traits", "origin", "convert", "invoke")
    ):
        raise UsageError(f"{tool!r} is no tool. Put @tool on the function, or pass tool(function).")
