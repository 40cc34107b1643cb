"""The Responses API. Pure."""

from __future__ import annotations

from nanobot.agent import RunResult

from ._answer import new_id
from ._question import Question
from ._responses_answer import ResponseObject, ResponsesStream, responses_body
from ._responses_request import ResponsesRequest, question_from_responses

__all__ = ["ResponsesApi"]


class ResponsesApi:
    """OpenAI's newer API."""

    request_type = ResponsesRequest

    def question(self, request: ResponsesRequest, session_header: str | None) -> Question:
        """See `question_from_responses`."""
        return question_from_responses(request, session_header)

    def model(self, request: ResponsesRequest) -> str | None:
        """The model that a request names."""
        return request.model

    def wants_stream(self, request: ResponsesRequest) -> bool:
        """Whether the answer is to be streamed."""
        return bool(request.stream)

    def body(self, request: ResponsesRequest, result: RunResult, model: str, created: int) -> bytes:
        """An answer in one piece: JSON."""
        return responses_body(result, _empty(request, model, created))

    def stream(self, request: ResponsesRequest, model: str, created: int) -> ResponsesStream:
        """An answer in pieces."""
        return ResponsesStream(_empty(request, model, created))


def _empty(request: ResponsesRequest, model: str, created: int) -> ResponseObject:
    return ResponseObject(
        id=new_id("resp_"),
        created_at=created,
        model=model,
        status="in_progress",
        instructions=request.instructions,
        store=request.store is not False,
    )
