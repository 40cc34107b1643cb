"""The shapes that arrive from a chat completions service, as loosely as services keep to them.

Every field may be missing or null, and what is not named here is skipped without being built. Private to this
package: `_decode` turns them into deltas at once.

Source: https://platform.openai.com/docs/api-reference/chat/streaming, and what vLLM, llama.cpp, Ollama,
DeepSeek, Moonshot, Mistral, Groq, OpenRouter and Google's compatible endpoint were seen to send.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

__all__ = ["CHUNK", "Choice", "Chunk", "ContentPart", "Delta", "Function", "ToolCall", "WireUsage"]


class Function(Struct):
    """A tool's name and arguments; the arguments are JSON text, or from some services the object itself."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ToolCall(Struct):
    """A fragment of a tool call, or a whole one. `extra_content` is a signature that Google wants back."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None
    extra_content: dict[str, Any] | None = None


class ContentPart(Struct):
    """A piece of content from services (Mistral) that send a list; `thinking` holds pieces again."""

    type: str | None = None
    text: str | None = None
    thinking: str | list[ContentPart] | None = None


class Delta(Struct):
    """What is new in an answer, or with `stream: false` the whole of it."""

    content: str | list[ContentPart] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None


class _PromptDetails(Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None  # OpenRouter, OpenAI from GPT-6 on


class _CompletionDetails(Struct):
    reasoning_tokens: int | None = None


class WireUsage(Struct):
    """Token counts; what is cached has three names."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek
    cached_tokens: int | None = None  # Moonshot


class _Groq(Struct):
    usage: WireUsage | None = None


class Choice(Struct):
    """One of the answers asked for; we ask for one. `delta` when streamed, `message` when not."""

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    usage: WireUsage | None = None  # Moonshot
    error: Any = None  # OpenRouter, when the service behind it broke off


class Chunk(Struct):
    """One event of a streamed answer, or the whole body of one that is not streamed."""

    choices: list[Choice] | None = None
    usage: WireUsage | None = None
    error: Any = None
    x_groq: _Groq | None = None


CHUNK: Final[msgspec.json.Decoder[Chunk]] = msgspec.json.Decoder(Chunk, strict=False)
"""Not strict: "3" and 3.0 are read as 3 where a number belongs."""
