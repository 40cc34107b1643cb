"""The Anthropic Messages wire format, as Anthropic and the services that copy it speak it."""

from ._provider import AnthropicProvider

__all__ = ["AnthropicProvider"]
