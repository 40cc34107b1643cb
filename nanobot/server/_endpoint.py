"""An endpoint that asks the agent: from the bytes of a request to the bytes of its answer."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec
import trio
from msgspec.structs import replace
from starlette.datastructures import Headers
from starlette.responses import Response

from nanobot.agent import STREAM_EVENT_RUN_COMPLETED, RunResult

from ._api_error import ApiError
from ._client import Client, Receive
from ._following import Following
from ._form import read_form
from ._json_body import content_kind, decoded, is_json, refused_kind
from ._question import Question
from ._service import Service
from ._streaming import AnswerStream, Send, send_stream

__all__ = ["Api", "Endpoint"]

R = TypeVar("R")

_IN_THREAD_FROM_BYTES: Final = 200_000
"""Decoding that much takes about a millisecond, as long as all other clients would have to wait."""


class Api(Protocol[R]):
    """One of the APIs that are spoken; `R` is what a request is decoded to."""

    @property
    def request_type(self) -> type[R]:
        """What the body of a request is decoded to."""

    def question(self, request: R, session_header: str | None) -> Question:
        """What a request asks of the agent."""

    def model(self, request: R) -> str | None:
        """The model that a request names."""

    def wants_stream(self, request: R) -> bool:
        """Whether the answer is to be streamed."""

    def body(self, request: R, result: RunResult, model: str, created: int) -> bytes:
        """An answer in one piece: JSON."""

    def stream(self, request: R, model: str, created: int) -> AnswerStream:
        """An answer in pieces."""


class Endpoint(Generic[R]):
    """An ASGI application for one route.

    Args:
      service: Whom to ask.
      api: The API of the route.
      accepts_forms: Whether a request may be a form, which reads as a chat.
    """

    def __init__(self, service: Service, api: Api[R], *, accepts_forms: bool = False) -> None:
        self._service = service
        self._api = api
        self._accepts_forms = accepts_forms
        self._decoder = msgspec.json.Decoder(api.request_type)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
          ApiError: It failed, and nothing was sent.
          ClientGone: The client left.
        """
        self._service.check_open()
        headers = Headers(scope=scope)
        reject_busy = _rejects_busy(headers.get("x-session-busy"))
        with Client(receive, self._service.budget) as client:
            request, question = await self._read(headers, client)
            self._service.check_model(self._api.model(request))
            created = int(time.time())
            stream = None
            if self._api.wants_stream(request):
                stream = self._api.stream(request, self._service.model, created)
            async with self._service.ask(
                question,
                client,
                reject_busy=reject_busy,
            ) as following:
                answer: RunResult | Exception | None
                if stream is not None:
                    answer = await send_stream(following, stream, send)
                else:
                    answer = await _result(following)
            # Not inside the block: it has a nursery, which would put the error into a group.
            if isinstance(answer, Exception):
                raise answer
        if answer is not None:
            body = self._api.body(request, answer, self._service.model, created)
            await Response(body, media_type="application/json")(scope, receive, send)

    async def _read(self, headers: Headers, client: Client) -> tuple[R, Question]:
        content_type = headers.get("content-type", "")
        kind = content_kind(content_type)
        session_header = headers.get("x-session-id")
        if kind == "multipart/form-data" and self._accepts_forms:
            form = await read_form(content_type, await client.read_body())
            request: Any = form.request
            question = self._api.question(request, session_header)
            return request, replace(question, attachments=form.attachments)
        if not is_json(kind):
            await client.discard_body()
            accepted = (
                "application/json or multipart/form-data"
                if self._accepts_forms
                else "application/json"
            )
            raise refused_kind(kind, accepted)
        body = await client.read_body()
        read = partial(self._decode, body, session_header)
        if len(body) < _IN_THREAD_FROM_BYTES:
            return read()
        return await trio.to_thread.run_sync(read)

    def _decode(self, body: bytearray, session_header: str | None) -> tuple[R, Question]:
        request = decoded(self._decoder, body)
        return request, self._api.question(request, session_header)


def _rejects_busy(header: str | None) -> bool:
    if header is not None and header not in ("reject", "wait"):
        raise ApiError(
            400,
            "X-Session-Busy is `reject` or `wait`.",
            code="invalid_value",
            param="X-Session-Busy",
        )
    return header == "reject"


async def _result(following: Following) -> RunResult | Exception:
    event = await following.last()
    if event.type == STREAM_EVENT_RUN_COMPLETED:
        assert event.result is not None  # on this type of event it is there
        return event.result
    return await following.failure()
