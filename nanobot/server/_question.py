"""What a request asks of the agent, whatever API it came through. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from ._api_error import ApiError

__all__ = ["SESSION_PREFIX", "Attachment", "Question", "question", "session_key"]

SESSION_PREFIX: Final = "api:"


class Attachment(Struct, frozen=True):
    """A file that came with a message. `name` is the client's, "" if it gave none."""

    name: str
    content: bytes


class Question(Struct, frozen=True, kw_only=True):
    """One message for the agent.

    Attributes:
      text: What the user says.
      attachments: The files that go with it.
      session_key: The session that it continues.
      history: What was said before, from a client that keeps its conversations itself; None to continue the session.
      store: Whether the turn becomes part of the session.
      sender_id: Who asks, for the model to know.
      resumes: Whether nothing new is asked: the session's turn, which was parked or interrupted, is to go on.
    """

    text: str
    attachments: tuple[Attachment, ...] = ()
    session_key: str
    history: tuple[Mapping[str, Any], ...] | None = None
    store: bool = True
    sender_id: str = "user"
    resumes: bool = False

    @property
    def ephemeral(self) -> bool:
        """Whether no trace of the turn may stay."""
        return self.history is not None or not self.store


def session_key(body: str | None, header: str | None, user: str | None) -> str:
    """The session that a request is for: by `session_id` in the body, `X-Session-Id`, or `user`, in this order."""
    return f"{SESSION_PREFIX}{body or header or user or 'default'}"


def question(
    said: Sequence[tuple[Mapping[str, Any], tuple[Attachment, ...]]],
    *,
    key: str,
    sender_id: str | None,
    store: bool = True,
    param: str = "messages",
) -> Question:
    """Tell a single message, which continues the session, from a transcript, which stands on its own.

    Args:
      said: The messages in OpenAI's chat shape, each with the files that came in it; oldest first, at least one.
      key: The session.
      sender_id: Who asks.
      store: Whether a single message becomes part of the session.
      param: The name of the field that the messages were in.

    Raises:
      ApiError: 422 if the last message is not the user's.
    """
    *before, (last, attachments) = said
    if last["role"] != "user":
        raise ApiError(
            422,
            f"The last message must be the user's, not of role {last['role']!r}.",
            code="last_message_not_user",
            param=param,
        )
    if any(files for message, files in before):
        raise ApiError(
            422,
            "Files can go with the last message only; earlier ones may have images and text.",
            code="file_in_history",
            param=param,
        )
    return Question(
        text=_text(last),
        attachments=attachments,
        session_key=key,
        history=tuple(message for message, _ in before) if before else None,
        store=store,
        sender_id=sender_id or "user",
    )


def _text(message: Mapping[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")
