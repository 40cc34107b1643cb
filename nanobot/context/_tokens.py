"""How many tokens a request will cost, told without asking anybody."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from nanobot.messages import (
    AssistantMessage,
    FilePart,
    ImagePart,
    Message,
    Part,
    SystemMessage,
    TextPart,
    ToolMessage,
    ToolSpec,
    UserMessage,
)

__all__ = [
    "Calibration",
    "TextCounter",
    "estimate_text",
    "exact_counter",
    "message_tokens",
    "messages_tokens",
    "tool_tokens",
]

TextCounter: TypeAlias = Callable[[str], int]
"""Counts the tokens of one text."""

# Measured with the o200k_base encoding: English prose and Python source have 4.2-4.4 characters to a token, JSON with
# ids 2.1, Chinese and Japanese 1.4-1.6, Russian, Arabic and Hindi 2.9. An estimate should err upwards, but not by half.
_CHARS_PER_TOKEN: Final = 3.5
_JSON_CHARS_PER_TOKEN: Final = 2.5
# Every byte that UTF-8 needs beyond one per character adds a quarter token.
_TOKENS_PER_EXTRA_BYTE: Final = 0.25

# What chat templates put around a message, a call and a tool. Source: OpenAI's cookbook, "How to count tokens with
# tiktoken", has 3-4 for a message and 7-12 for a function.
_MESSAGE_TOKENS: Final = 4
_CALL_TOKENS: Final = 8
_TOOL_TOKENS: Final = 12
# A 1024x1024 image is 765 tokens for OpenAI (high detail) and at most 1,600 for Anthropic.
_IMAGE_TOKENS: Final = 1_000


def estimate_text(text: str) -> int:
    """Estimate the tokens of a text from its lengths alone; costs next to nothing for ASCII, whatever its length."""
    if text.isascii():  # a flag of the string, not a scan
        return math.ceil(len(text) / _CHARS_PER_TOKEN)
    return math.ceil(_estimate(text, _CHARS_PER_TOKEN))


def message_tokens(message: Message, count: TextCounter = estimate_text) -> int:
    """Count the tokens of one message, with what the provider wraps around it."""
    match message:
        case SystemMessage(content=content):
            return _MESSAGE_TOKENS + count(content)
        case UserMessage(content=content):
            return _MESSAGE_TOKENS + _content_tokens(content, count)
        case ToolMessage(content=content):
            return _MESSAGE_TOKENS + _CALL_TOKENS + _content_tokens(content, count)
        case AssistantMessage():
            tokens = _MESSAGE_TOKENS + count(message.content)
            if message.reasoning:
                tokens += count(message.reasoning)
            for call in message.tool_calls:
                tokens += _CALL_TOKENS + count(call.name) + _json_tokens(call.arguments, count)
            for block in message.thinking:
                tokens += count(block.text) + count(block.signature)
                if block.payload:
                    tokens += _json_tokens(_as_json(block.payload), count)
            return tokens


def messages_tokens(messages: Iterable[Message], count: TextCounter = estimate_text) -> int:
    """Count the tokens of several messages."""
    return sum([message_tokens(message, count) for message in messages])


def tool_tokens(tools: Sequence[ToolSpec], count: TextCounter = estimate_text) -> int:
    """Count the tokens of the tools that a request offers. They rarely change: count them once."""
    return sum(
        _TOOL_TOKENS
        + count(tool.name)
        + count(tool.description)
        + _json_tokens(_as_json(tool.parameters), count)
        for tool in tools
    )


class Calibration(Struct, frozen=True, gc=False):
    """What providers reported of a model, set against what was estimated.

    Attributes:
      ratio: Reported tokens per estimated token.
      reports: How many reports it rests on.
    """

    ratio: float = 1.0
    reports: int = 0

    def applied(self, estimated: int) -> int:
        """Correct an estimate."""
        return math.ceil(estimated * self.ratio)

    def updated(self, *, estimated: int, reported: int) -> Calibration:
        """Learn from the usage of one request.

        Args:
          estimated: Tokens of the whole prompt, uncorrected.
          reported: Prompt tokens as the provider counted them, cached ones included.

        Reports that can only be a mistake (nothing counted, or off by more than a factor of four) teach nothing.
        """
        if estimated < _MIN_CALIBRATING_TOKENS or reported <= 0:
            return self
        seen = reported / estimated
        if not 1 / _MAX_RATIO <= seen <= _MAX_RATIO:
            return self
        weight = max(1 / (self.reports + 1), _MIN_WEIGHT)
        return Calibration(self.ratio + (seen - self.ratio) * weight, self.reports + 1)


_MAX_RATIO: Final = 4.0
_MIN_CALIBRATING_TOKENS: Final = (
    50  # below it, what the provider adds of its own outweighs the text
)
_MIN_WEIGHT: Final = (
    0.2  # of the latest report, so that a session that turns from prose to data is followed
)


def exact_counter() -> TextCounter | None:
    """Return a counter that really encodes, with OpenAI's o200k_base, or None if the `tokens` extra is not installed.

    Call it in a thread: loading takes half a second. Counting runs at some 10 MB/s, once per text: counts are
    remembered. For models of others the count is an estimate, too, which `Calibration` corrects.
    """
    try:
        encode = _encoder()
    except ImportError:
        return None
    except DeprecationWarning:
        # Warnings are errors here, and it opens its data by a function that Python 3.11 and 3.12 call deprecated. Only now,
        # and not always: what is ignored is ignored in all threads.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            encode = _encoder()
    return _ExactCounter(encode)


@cache  # it never changes, and takes 140 MB: the bots of a process share it
def _encoder() -> Callable[[str], Sequence[int]]:
    bpe_openai = import_module("bpe_openai")  # deferred: an optional extra, and it takes 0.4 s
    encode: Callable[[str], Sequence[int]] = bpe_openai.get_encoding("o200k_base").encode_ordinary
    return encode


class _ExactCounter:
    """Counts each text once. What it remembers are lengths and hashes, so no text is kept alive by it."""

    def __init__(self, encode: Callable[[str], Sequence[int]]) -> None:
        self._encode = encode
        self._counted: dict[tuple[int, int], int] = {}

    def __call__(self, text: str) -> int:
        if not text:
            return 0
        key = (len(text), hash(text))
        counted = self._counted.get(key)
        if counted is None:
            counted = sum(
                len(self._encode(text[at : at + _SLICE_CHARS]))
                for at in range(0, len(text), _SLICE_CHARS)
            )
            if len(self._counted) >= _REMEMBERED_TEXTS:
                self._counted.clear()
            self._counted[key] = counted
        return counted


_SLICE_CHARS: Final = 100_000  # the encoder refuses more than 200,000 tokens at once
_REMEMBERED_TEXTS: Final = 50_000  # some 5 MB


def _estimate(text: str, chars_per_token: float) -> float:
    tokens = len(text) / chars_per_token
    if text.isascii():  # a flag of the string, not a scan
        return tokens
    extra_bytes = len(text.encode("utf-8", "surrogatepass")) - len(text)
    return tokens + extra_bytes * _TOKENS_PER_EXTRA_BYTE


def _json_tokens(text: str, count: TextCounter) -> int:
    if count is estimate_text:
        return math.ceil(_estimate(text, _JSON_CHARS_PER_TOKEN))
    return count(text)


def _content_tokens(content: str | tuple[Part, ...], count: TextCounter) -> int:
    if isinstance(content, str):
        return count(content)
    tokens = 0
    for part in content:
        match part:
            case TextPart(text=text):
                tokens += count(text)
            case ImagePart():
                tokens += _IMAGE_TOKENS
            case FilePart(path=path):
                tokens += _MESSAGE_TOKENS + count(path)
    return tokens


def _as_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
