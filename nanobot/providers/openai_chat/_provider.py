"""A provider that speaks OpenAI chat completions."""

from __future__ import annotations

from functools import partial

from nanobot._frames import forgetful

from .._answer_stream import AnswerStream
from .._connection_count import ConnectionCount
from .._encoded_once import EncodedOnce
from .._endpoint import Endpoint
from .._http_service import HTTPService
from .._pool import ConnectionPool
from .._provider import ModelRequest
from ._decode import AnswerDecoder
from ._encode import call_ids_for, encode_body, encode_message, encode_tools, read_images

__all__ = ["OpenAIChatProvider"]


class OpenAIChatProvider:
    """Sends requests to one endpoint and streams the answers. Lives in one Trio run.

    Quirks of an endpoint that it knows: "max_completion_tokens" (the name under which the limit is sent),
    "no_stream_usage" (do not ask for token counts), "no_think_tags" (what is between `<think>` tags is text),
    "printed_tool_calls" (text that calls an offered tool is a call), and "tool_ids_40" and "tool_ids_9" (ids of calls from
    elsewhere are made to fit: 40 characters at most, or 9 letters and digits).

    Args:
      endpoint: Where the service is and how it wants to be spoken to.
      pool: Used as it is and left open, so that several providers can share one. None makes one that `aclose` closes.

    Raises:
      ConfigError: The endpoint cannot be used; the text names the setting.

    Attributes:
      name: The provider's name as in the configuration.
    """

    @forgetful
    def __init__(self, endpoint: Endpoint, *, pool: ConnectionPool | None = None) -> None:
        api_key = endpoint.api_key.strip()  # a key read from a file often ends with a line break
        credentials = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self.name = endpoint.name
        self._endpoint = endpoint
        call_id = call_ids_for(endpoint.quirks)
        self._encoded = EncodedOnce(
            f"openai chat, {call_id.__name__}",
            partial(encode_message, call_id=call_id),
            encode_tools,
        )
        self._service = HTTPService(endpoint, "/chat/completions", headers=credentials, pool=pool)

    async def open(self, request: ModelRequest) -> AnswerStream:
        """Send the request and return once the service has accepted it.

        Raises:
          ProviderError: The service refused, failed or could not be reached.
          UsageError: The provider was closed.

        Cancellation closes the connection before it propagates.
        """
        endpoint = self._endpoint
        quirks = endpoint.quirks
        sought = self._encoded.look(request.messages)
        images = await read_images(sought.fresh)
        body = encode_body(
            request,
            self._encoded.messages(sought, images),
            self._encoded.tools(request.tools),
            quirks=quirks,
            extra_body=endpoint.extra_body,
        )
        del sought, images  # many may wait for the service
        answer = await self._service.post(body)
        prints = "printed_tool_calls" in quirks and request.tool_choice != "none"
        decoder = AnswerDecoder(
            provider=self.name,
            split_think_tags="no_think_tags" not in quirks,
            printed_calls_of=frozenset(tool.name for tool in request.tools)
            if prints
            else frozenset(),
            secrets=self._service.secrets,
        )
        return AnswerStream(answer, decoder)

    def connections(self) -> ConnectionCount:
        """How many connections it holds. From any thread."""
        return self._service.connections()

    async def aclose(self) -> None:
        """Refuse further requests, and close every connection unless the pool was handed in. Idempotent."""
        await self._service.aclose()
