"""A provider that speaks OpenAI's Responses format."""

from __future__ import annotations

from functools import partial

from nanobot._frames import forgetful

from .._answer_stream import AnswerStream
from .._connection_count import ConnectionCount
from .._encoded_once import EncodedOnce
from .._endpoint import Endpoint
from .._http_service import HTTPService
from .._images import read_images
from .._pool import ConnectionPool
from .._provider import ModelRequest
from ._decode import ResponseDecoder
from ._encode import encode_body, encode_message, encode_tools

__all__ = ["OpenAIResponsesProvider"]


class OpenAIResponsesProvider:
    """Sends requests to one endpoint and streams the answers. Lives in one Trio run.

    The service is told to store nothing: each request carries all that it needs, encrypted reasoning included.

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
        self._encoded = EncodedOnce(
            f"openai responses, {endpoint.name}",
            partial(encode_message, provider=endpoint.name),
            encode_tools,
        )
        self._service = HTTPService(endpoint, "/responses", headers=credentials, pool=pool)

    async def open(self, request: ModelRequest) -> AnswerStream:
        """Send the request and return once the service has accepted it.

        Raises:
          ProviderError: The service refused, failed or could not be reached.
          UsageError: The provider was closed.

        Cancellation closes the connection before it propagates.
        """
        endpoint = self._endpoint
        sought = self._encoded.look(request.messages)
        images = await read_images(sought.fresh)
        body = encode_body(
            request,
            self._encoded.messages(sought, images),
            self._encoded.tools(request.tools),
            extra_body=endpoint.extra_body,
        )
        del sought, images  # many may wait for the service
        answer = await self._service.post(body)
        return AnswerStream(
            answer, ResponseDecoder(provider=self.name, secrets=self._service.secrets)
        )

    def connections(self) -> ConnectionCount:
        """How many connections it holds. From any thread."""
        return self._service.connections()

    async def aclose(self) -> None:
        """Refuse further requests, and close every connection unless the pool was handed in. Idempotent."""
        await self._service.aclose()
