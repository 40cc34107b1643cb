"""What a model is told about one tool."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

__all__ = ["ToolSpec"]


class ToolSpec(Struct, frozen=True):
    """Name, prompt and JSON schema of a tool, as every wire format needs them."""

    name: str
    description: str
    parameters: dict[str, Any]
