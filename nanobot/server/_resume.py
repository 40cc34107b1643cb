"""`POST /v1/resume`: the turn of a session that was parked or interrupted goes on, and is answered like a chat. Pure."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from nanobot.agent import RunResult

from ._chat_answer import ChatStream, chat_body
from ._chat_request import SessionId, StreamOptions
from ._question import Question, session_key

__all__ = ["ResumeApi", "ResumeRequest"]


class ResumeRequest(Struct, frozen=True, kw_only=True):
    """Which session goes on. What its turn was asked, and by whom, is known."""

    session_id: SessionId | None = None
    user: Annotated[
        str | None, Meta(description="Names the session, unless something else does.")
    ] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class ResumeApi:
    """A chat whose question was asked before."""

    request_type = ResumeRequest

    def question(self, request: ResumeRequest, session_header: str | None) -> Question:
        """Nothing new."""
        key = session_key(request.session_id, session_header, request.user)
        return Question(text="", session_key=key, resumes=True)

    def model(self, request: ResumeRequest) -> str | None:
        """The one that the turn began with."""
        return None

    def wants_stream(self, request: ResumeRequest) -> bool:
        """Whether the answer is to be streamed."""
        return bool(request.stream)

    def body(self, request: ResumeRequest, result: RunResult, model: str, created: int) -> bytes:
        """An answer in one piece: JSON."""
        return chat_body(result, model, created)

    def stream(self, request: ResumeRequest, model: str, created: int) -> ChatStream:
        """An answer in pieces."""
        options = request.stream_options
        include_usage = options is not None and bool(options.include_usage)
        return ChatStream(model, created, include_usage=include_usage)
