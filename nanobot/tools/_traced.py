"""Tools whose calls are told of while they last."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from nanobot.messages import ToolSpec
from nanobot.telemetry import Telemetry

from ._cross import Cross
from ._run_context import RunContext
from ._tool import Tool, ToolTraits
from ._toolset import Toolset

__all__ = ["traced"]


def traced(toolset: Toolset, telemetry: Telemetry) -> Toolset:
    """The same tools; each call that is run is told of. One that is not (denied, wrong arguments) is not."""
    return Toolset([_TracedTool(tool, telemetry) for tool in toolset])


class _TracedTool:
    def __init__(self, tool: Tool, telemetry: Telemetry) -> None:
        self._tool = tool
        self._telemetry = telemetry

    @property
    def spec(self) -> ToolSpec:
        return self._tool.spec

    @property
    def traits(self) -> ToolTraits:
        return self._tool.traits

    @property
    def origin(self) -> str:
        return self._tool.origin

    def convert(self, arguments: dict[str, Any]) -> Any:
        return self._tool.convert(arguments)

    async def invoke(self, arguments: Any, context: RunContext, cross: Cross) -> object:
        telemetry, name = self._telemetry, self._tool.spec.name
        began, error = time.monotonic(), "cancelled"
        try:
            with telemetry.span(
                "tool",
                name,
                tool=name,
                tool_type="function",
                tool_call_id=context.tool_call_id,
                origin=self.origin,
                arguments=_text(arguments) if telemetry.captures_content else None,
            ) as span:
                try:
                    value = await self._tool.invoke(arguments, context, cross)
                except Exception as raised:
                    error = type(raised).__qualname__
                    raise
                error = ""
                if telemetry.captures_content:
                    span.note(result=_text(value))
                return value
        finally:
            telemetry.measured("tool_s", time.monotonic() - began, tool=name, error=error or None)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except Exception:  # noqa: BLE001 - a stranger's value decides how it is written
        return f"({type(value).__qualname__})"
