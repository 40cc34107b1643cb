"""What the agent needs from a model service, whatever its wire format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct, field

from nanobot.errors import ProviderError
from nanobot.messages import Delta, Message, ToolSpec, Usage

__all__ = ["DeltaStream", "ModelRequest", "OutputFormat", "Provider", "RequestWatch"]


class RequestWatch(Protocol):
    """Accounts for one request, which may take several attempts, one after the other."""

    def asking(self, provider: str, request: ModelRequest) -> None:
        """An attempt begins: this provider is asked for this model."""
        ...

    def accepted(self) -> None:
        """The service has accepted the attempt."""
        ...

    def failed(self, error: ProviderError, usage: Usage | None) -> None:
        """The attempt failed before the answer had begun; `usage` is what the service counted nevertheless."""
        ...

    def prompt_tokens(self, request: ModelRequest) -> int:
        """How many tokens the request shows to the model, about."""
        ...


class OutputFormat(Struct, frozen=True):
    """What an answer in words has to look like: JSON that fits a schema, which the service enforces.

    `schema` is one that `strict_schema` has written; `name` has letters, digits, "_" and "-", 64 at most.
    """

    name: str
    schema: dict[str, Any]


class ModelRequest(Struct, frozen=True):
    """One request to a model: everything that is shown and every limit that is asked for.

    `tool_choice` is "auto" or "none"; `max_tokens` bounds the completion. None means the service's own default. `watch` is
    told of each attempt at it, by those who make more than one. `output` is for services that the catalog says enforce a
    schema.
    """

    model: str
    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    tool_choice: str = "auto"
    max_tokens: int | None = None
    temperature: float | None = None
    reasoning_effort: str | None = None
    extra_body: dict[str, Any] = field(default_factory=dict)
    watch: RequestWatch | None = None
    output: OutputFormat | None = None


class DeltaStream(Protocol):
    """One open answer. Iterating gives the deltas of one network read at a time, never an empty batch.

    Iteration raises `ProviderError`; it ends normally only after `Finished` was delivered. `aclose()` is idempotent and,
    also when cancelled, returns only after the connection went back to its pool or was closed.
    """

    def __aiter__(self) -> DeltaStream: ...

    async def __anext__(self) -> Sequence[Delta]: ...

    async def aclose(self) -> None: ...


class Provider(Protocol):
    """Code for one vendor API. Lives in one Trio run; `aclose()` ends it and is idempotent."""

    @property
    def name(self) -> str:
        """The provider's name as in the configuration, for errors and results."""
        ...

    async def open(self, request: ModelRequest) -> DeltaStream:
        """Send the request and return once the service has accepted it.

        Raises:
          ProviderError: The service refused, failed or could not be reached.

        Cancellation closes the connection before it propagates.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection and process this provider owns."""
        ...
