"""The OpenAI Responses wire format: what reasoning models are asked in when they have to call tools."""

from ._provider import OpenAIResponsesProvider

__all__ = ["OpenAIResponsesProvider"]
