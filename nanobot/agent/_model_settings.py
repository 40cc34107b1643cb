"""Which model a turn asks, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from nanobot.messages import Message, ToolSpec
from nanobot.providers import ModelRequest, OutputFormat, RequestWatch

__all__ = ["ModelSettings"]


class ModelSettings(Struct, frozen=True, kw_only=True, gc=False):
    """The model's id as its vendor knows it, and what every request of a turn asks for.

    `max_tokens` bounds one completion. None leaves a setting to the service. `extra_body` goes into each request as
    it is.
    """

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    reasoning_effort: str | None = None
    extra_body: dict[str, Any] = field(default_factory=dict)

    def request(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        *,
        use_tools: bool,
        watch: RequestWatch | None = None,
        output: OutputFormat | None = None,
    ) -> ModelRequest:
        """Make a request. With `use_tools=False` the tools are still described, for services want to know every tool
        that the history mentions and cache the prefix they are part of, but the model must not call one.
        """
        return ModelRequest(
            self.model,
            messages,
            tools,
            "auto" if use_tools else "none",
            self.max_tokens,
            self.temperature,
            self.reasoning_effort,
            self.extra_body,
            watch,
            output,
        )
