"""A provider that speaks OpenAI chat completions."""

from __future__ import annotations

import httpx

from .._endpoint import Endpoint
from .._http_service import HTTPService
from .._provider import ModelRequest
from ._answer import ChatCompletionStream
from ._encode import encode_body, encode_message, encode_tools, read_images

__all__ = ["OpenAIChatProvider"]


class OpenAIChatProvider:
    """Sends requests to one endpoint and streams the answers. Lives in one Trio run.

    Quirks of an endpoint that it knows: "max_completion_tokens" (the name under which the limit is sent),
    "no_stream_usage" (do not ask for token counts), "no_think_tags" (what is between `<think>` tags is text).

    Args:
      endpoint: Where the service is and how it wants to be spoken to.
      transport: Used as it is and left open, so that several providers can share one. None makes one that
      `aclose` closes.

    Raises:
      ConfigError: The endpoint cannot be used; the text names the setting.
    """

    def __init__(
        self, endpoint: Endpoint, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        api_key = endpoint.api_key.strip()  # a key read from a file often ends with a line break
        credentials = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._endpoint = endpoint
        self._service = HTTPService(
            endpoint, "/chat/completions", headers=credentials, transport=transport
        )

    @property
    def name(self) -> str:
        """The provider's name as in the configuration."""
        return self._endpoint.name

    async def open(self, request: ModelRequest) -> ChatCompletionStream:
        """Send the request and return once the service has accepted it.

        Raises:
          ProviderError: The service refused, failed or could not be reached.
          UsageError: The provider was closed.

        Cancellation closes the connection before it propagates.
        """
        endpoint = self._endpoint
        images = await read_images(request.messages)
        body = encode_body(
            request,
            [encode_message(message, images) for message in request.messages],
            encode_tools(request.tools),
            quirks=endpoint.quirks,
            extra_body=endpoint.extra_body,
        )
        answer = await self._service.post(body)
        return ChatCompletionStream(answer, split_think_tags="no_think_tags" not in endpoint.quirks)

    async def aclose(self) -> None:
        """Refuse further requests, and close every connection unless the transport was handed in. Idempotent."""
        await self._service.aclose()
