"""The OpenAI chat completions wire format, as OpenAI and the many services that copy it speak it."""

from ._provider import OpenAIChatProvider

__all__ = ["OpenAIChatProvider"]
