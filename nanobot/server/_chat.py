"""The chat completions API. Pure."""

from __future__ import annotations

from nanobot.agent import RunResult

from ._chat_answer import ChatStream, chat_body
from ._chat_request import ChatRequest, question_from_chat
from ._question import Question

__all__ = ["ChatApi"]


class ChatApi:
    """OpenAI's first API, which everybody speaks."""

    request_type = ChatRequest

    def question(self, request: ChatRequest, session_header: str | None) -> Question:
        """See `question_from_chat`."""
        return question_from_chat(request, session_header)

    def model(self, request: ChatRequest) -> str | None:
        """The model that a request names."""
        return request.model

    def wants_stream(self, request: ChatRequest) -> bool:
        """Whether the answer is to be streamed."""
        return bool(request.stream)

    def body(self, request: ChatRequest, result: RunResult, model: str, created: int) -> bytes:
        """An answer in one piece: JSON."""
        return chat_body(result, model, created)

    def stream(self, request: ChatRequest, model: str, created: int) -> ChatStream:
        """An answer in pieces."""
        options = request.stream_options
        include_usage = options is not None and bool(options.include_usage)
        return ChatStream(model, created, include_usage=include_usage)
