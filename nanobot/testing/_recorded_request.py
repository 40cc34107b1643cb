"""What a scripted server remembers of a request."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["RecordedRequest"]


class RecordedRequest:
    """One request for a completion, as it arrived; what becomes of it is filled in as it happens.

    Times are of `time.monotonic()`, in seconds: on one machine they can be compared with the client's own, also across
    threads and, on Linux, across processes.

    Attributes:
      number: 1 for the first request of the server; the ids in its answer are made from it.
      connection: 1 for the first connection; the same number means that the client reused it.
      path: The request target.
      headers: Names in lower case.
      body: The bytes of the body; `json` is what they mean.
      model: The model that was asked.
      stream: Whether the answer was wanted as a stream.
      last_role: Who spoke last: "user", or "tool" if this is the request that carries tool results. "" if nobody did.
      arrived_at: When the last byte of the request was read.
      answered_at: When the last byte of the answer was handed to the network; None if that has not happened.
      hung_up_at: When the client was seen to close the connection before that; None if it has not.
    """

    __slots__ = (
        "_json",
        "answered_at",
        "arrived_at",
        "body",
        "connection",
        "headers",
        "hung_up_at",
        "last_role",
        "model",
        "number",
        "path",
        "stream",
    )

    def __init__(
        self,
        *,
        number: int,
        connection: int,
        path: str,
        headers: dict[str, str],
        body: bytes,
        model: str,
        stream: bool,
        last_role: str,
        arrived_at: float,
    ) -> None:
        self.number = number
        self.connection = connection
        self.path = path
        self.headers = headers
        self.body = body
        self.model = model
        self.stream = stream
        self.last_role = last_role
        self.arrived_at = arrived_at
        self.answered_at: float | None = None
        self.hung_up_at: float | None = None
        self._json: dict[str, Any] | None = None

    def __repr__(self) -> str:
        if self.hung_up_at is not None:
            state = "client hung up"
        else:
            state = "being answered" if self.answered_at is None else "answered"
        return f"<RecordedRequest {self.number} on connection {self.connection}: {state}>"

    @property
    def json(self) -> dict[str, Any]:
        """The body, parsed once, when first asked for."""
        if self._json is None:
            self._json = msgspec.json.decode(self.body, type=dict[str, Any])
        return self._json

    @property
    def user_texts(self) -> list[str]:
        """What the user said in this conversation: the text of each user message, and of each text part of one."""
        texts: list[str] = []
        for message in self.json["messages"]:
            if message.get("role") == "user":
                content = message.get("content")
                parts = [{"text": content}] if isinstance(content, str) else content or []
                texts += [part["text"] for part in parts if "text" in part]
        return texts
