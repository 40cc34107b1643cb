"""How OpenTelemetry's conventions for generative AI call what runs tell.

Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/ (status: development), version 1.41.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ._telemetry import Fact, SpanKind

__all__ = ["OPERATIONS", "attributes_of", "span_name"]

OPERATIONS: Final[Mapping[SpanKind, str]] = {
    "run": "invoke_agent",
    "request": "chat",
    "tool": "execute_tool",
}
"""Spans that the conventions know, by their names; the others are nanobot's own."""

_ATTRIBUTES: Final = {
    "agent": "gen_ai.agent.name",
    "arguments": "gen_ai.tool.call.arguments",
    "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "finish_reason": "gen_ai.response.finish_reasons",
    "first_token_s": "gen_ai.response.time_to_first_chunk",
    "input_messages": "gen_ai.input.messages",
    "max_tokens": "gen_ai.request.max_tokens",
    "model": "gen_ai.request.model",
    "output_messages": "gen_ai.output.messages",
    "output_type": "gen_ai.output.type",
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "provider": "gen_ai.provider.name",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "response_model": "gen_ai.response.model",
    "result": "gen_ai.tool.call.result",
    "session_key": "gen_ai.conversation.id",
    "stream": "gen_ai.request.stream",
    "temperature": "gen_ai.request.temperature",
    "token_type": "gen_ai.token.type",
    "tool": "gen_ai.tool.name",
    "tool_call_id": "gen_ai.tool.call.id",
    "tool_type": "gen_ai.tool.type",
}
_PROVIDERS: Final = {
    "azure_openai": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""Providers that the conventions call otherwise."""


def span_name(kind: SpanKind, name: str) -> str:
    """What a span is called: few enough names to group by."""
    operation = OPERATIONS.get(kind, kind.replace("_", " "))
    return f"{operation} {name}" if name else operation


def attributes_of(facts: Mapping[str, Fact]) -> dict[str, str | int | float | bool | list[str]]:
    """Facts as attributes; what the conventions have no name for gets one under `nanobot.`."""
    attributes: dict[str, str | int | float | bool | list[str]] = {}
    for name, value in facts.items():
        if value is None:
            continue
        if name == "provider":
            value = _PROVIDERS.get(str(value), value)
        attributes[_ATTRIBUTES.get(name, f"nanobot.{name}")] = (
            [str(value)] if name == "finish_reason" else value
        )
    return attributes
