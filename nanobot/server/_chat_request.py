"""`POST /v1/chat/completions`: what a request may say, and what it asks of the agent. Pure.

Fields that are not listed are ignored: which model answers, with which sampling and tools, is the server's to say.
Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from ._api_error import ApiError
from ._data_url import attachment_from_data
from ._question import Attachment, Question, question, session_key

__all__ = ["ChatRequest", "DataUrl", "SessionId", "StreamOptions", "question_from_chat"]

SessionId: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=512, description="The session to continue: `api:` and this.")
]
DataUrl: TypeAlias = Annotated[
    str, Meta(pattern="^data:", description="The bytes: `data:TYPE;base64,…`.")
]


class TextPart(Struct, frozen=True, tag_field="type", tag="text"):
    """Text."""

    text: str


class ImageUrl(Struct, frozen=True):
    """An image. Only its bytes: the server fetches nothing for a client."""

    url: DataUrl


class ImagePart(Struct, frozen=True, tag_field="type", tag="image_url"):
    """An image to look at."""

    image_url: ImageUrl


class FileContent(Struct, frozen=True):
    """A file's bytes: a data URL, or base64."""

    file_data: Annotated[str, Meta(min_length=1)]
    filename: str | None = None


class FilePart(Struct, frozen=True, tag_field="type", tag="file"):
    """A file, which the agent may open with its tools."""

    file: FileContent


class RefusalPart(Struct, frozen=True, tag_field="type", tag="refusal"):
    """What a model said when it would not answer."""

    refusal: str


Part: TypeAlias = TextPart | ImagePart | FilePart | RefusalPart


class FunctionCall(Struct, frozen=True):
    """What a tool was to be called with."""

    name: str
    arguments: str


class ToolCall(Struct, frozen=True):
    """A call that an assistant made."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class ChatMessage(Struct, frozen=True):
    """One message of a conversation."""

    role: Literal["user", "assistant", "system", "developer", "tool"]
    content: str | list[Part] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class StreamOptions(Struct, frozen=True):
    """What a stream brings beside the answer."""

    include_usage: bool | None = None


class ChatRequest(Struct, frozen=True, kw_only=True):
    """A question for the agent. One message continues the session; several are a conversation that stands on its own."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    model: Annotated[
        str | None, Meta(description="Nothing, `nanobot`, or the name that `/v1/models` lists.")
    ] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    session_id: SessionId | None = None
    user: Annotated[
        str | None,
        Meta(description="Who asks; names the session too, unless something else does."),
    ] = None
    n: Annotated[int, Meta(ge=1, le=1, description="One answer; there is one session.")] | None = (
        None
    )


def question_from_chat(request: ChatRequest, session_header: str | None) -> Question:
    """What a request asks of the agent.

    Raises:
      ApiError: 413 or 422: it cannot be asked like this.
    """
    last = len(request.messages) - 1
    said = [
        _said(message, f"messages[{at}]", last=at == last)
        for at, message in enumerate(request.messages)
    ]
    key = session_key(request.session_id, session_header, request.user)
    return question(said, key=key, sender_id=request.user)


def _said(
    message: ChatMessage, where: str, *, last: bool
) -> tuple[dict[str, Any], tuple[Attachment, ...]]:
    """A message in the shape that transcripts have, and its files."""
    shaped: dict[str, Any] = {"role": message.role}
    files: tuple[Attachment, ...] = ()
    match message.role:
        case "developer":  # OpenAI's new word for it
            shaped["role"] = "system"
        case "assistant" if message.tool_calls:
            shaped["tool_calls"] = msgspec.to_builtins(message.tool_calls)
        case "tool":
            shaped["tool_call_id"] = message.tool_call_id or ""
            shaped["name"] = message.name or ""
    if isinstance(message.content, list):
        shaped["content"], files = _parts(message.content, f"{where}.content", last=last)
    elif message.content is None and "tool_calls" not in shaped:
        shaped["content"] = ""
    else:
        shaped["content"] = message.content
    if message.role not in ("user", "tool") and not isinstance(shaped["content"], str | None):
        shaped["content"] = _text_of(shaped["content"], f"{where}.content")
    return shaped, files


def _parts(
    parts: list[Part], where: str, *, last: bool
) -> tuple[list[dict[str, Any]], tuple[Attachment, ...]]:
    """The parts that stay in the message, and the files that go beside it: all files, and the last message's images."""
    kept: list[dict[str, Any]] = []
    files: list[Attachment] = []
    for at, part in enumerate(parts):
        param = f"{where}[{at}]"
        match part:
            case TextPart(text=text) | RefusalPart(refusal=text):
                kept.append({"type": "text", "text": text})
            case ImagePart(image_url=ImageUrl(url=url)):
                image = attachment_from_data(url, name="", param=param)
                if last:
                    files.append(image)
                else:
                    kept.append({"type": "image_url", "image_url": {"url": url}})
            case FilePart(file=FileContent(file_data=given, filename=name)):
                files.append(attachment_from_data(given, name=name or "", param=param))
    return kept, tuple(files)


def _text_of(parts: list[dict[str, Any]], where: str) -> str:
    if any(part["type"] != "text" for part in parts):
        raise ApiError(
            422,
            "Images can be in the messages of users and tools only.",
            code="image_not_allowed",
            param=where,
        )
    return "\n".join(part["text"] for part in parts)
