"""`POST /v1/responses`: what a request may say, and what it asks of the agent. Pure.

Fields that are not listed are ignored, as for chat completions.
Source: https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from ._api_error import ApiError
from ._chat_request import DataUrl, SessionId
from ._data_url import attachment_from_data
from ._question import Attachment, Question, question, session_key

__all__ = ["ResponsesRequest", "question_from_responses"]


class InputText(Struct, frozen=True, tag_field="type", tag="input_text"):
    """Text of a user or of the system."""

    text: str


class OutputText(Struct, frozen=True, tag_field="type", tag="output_text"):
    """Text of an answer."""

    text: str


class Refusal(Struct, frozen=True, tag_field="type", tag="refusal"):
    """What a model said when it would not answer."""

    refusal: str


class InputImage(Struct, frozen=True, tag_field="type", tag="input_image"):
    """An image to look at. Only its bytes: the server fetches nothing for a client."""

    image_url: DataUrl


class InputFile(Struct, frozen=True, tag_field="type", tag="input_file"):
    """A file, which the agent may open with its tools: a data URL, or base64."""

    file_data: Annotated[str, Meta(min_length=1)]
    filename: str | None = None


Content: TypeAlias = InputText | OutputText | Refusal | InputImage | InputFile


class InputItem(Struct, frozen=True):
    """One item of a conversation: a message, a call of a tool, or its result. Reasoning is accepted, and left out."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[Content] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[Content] | None = None


class ResponsesRequest(Struct, frozen=True, kw_only=True):
    """A question for the agent. One message continues the session; several, and one with `instructions`, are a conversation
    that stands on its own."""

    input: str | Annotated[list[InputItem], Meta(min_length=1)]
    instructions: str | None = None
    model: Annotated[
        str | None, Meta(description="Nothing, `nanobot`, or the name that `/v1/models` lists.")
    ] = None
    stream: bool | None = None
    store: Annotated[
        bool | None, Meta(description="false: read the session, and leave no trace of this in it.")
    ] = None
    session_id: SessionId | None = None
    user: Annotated[
        str | None,
        Meta(description="Who asks; names the session too, unless something else does."),
    ] = None
    previous_response_id: Annotated[
        None, Meta(description="Not supported: a conversation is continued by its session.")
    ] = None


def question_from_responses(request: ResponsesRequest, session_header: str | None) -> Question:
    """What a request asks of the agent.

    Raises:
      ApiError: 413 or 422: it cannot be asked like this.
    """
    said: list[tuple[dict[str, Any], tuple[Attachment, ...]]] = []
    if request.instructions:
        said.append(({"role": "system", "content": request.instructions}, ()))
    if isinstance(request.input, str):
        said.append(({"role": "user", "content": request.input}, ()))
    else:
        last = len(request.input) - 1
        for at, item in enumerate(request.input):
            said += _said(item, f"input[{at}]", last=at == last)
    if not said:
        raise ApiError(422, "There is no message.", code="no_message", param="input")
    key = session_key(request.session_id, session_header, request.user)
    return question(
        said,
        key=key,
        sender_id=request.user,
        store=request.store is not False,
        param="input",
    )


def _said(
    item: InputItem, where: str, *, last: bool
) -> list[tuple[dict[str, Any], tuple[Attachment, ...]]]:
    match item.type:
        case "reasoning":
            return []
        case "function_call":
            function = {"name": item.name or "", "arguments": item.arguments or "{}"}
            call = {"id": item.call_id or "", "type": "function", "function": function}
            return [({"role": "assistant", "content": None, "tool_calls": [call]}, ())]
        case "function_call_output":
            content, files = _content(item.output or "", f"{where}.output", last=False)
            result = {"role": "tool", "tool_call_id": item.call_id or "", "content": content}
            return [(result, files)]
        case _:
            return [_message(item, where, last=last)]


def _message(
    item: InputItem, where: str, *, last: bool
) -> tuple[dict[str, Any], tuple[Attachment, ...]]:
    if item.role is None:
        raise ApiError(422, "A message has a role.", code="no_role", param=f"{where}.role")
    role = "system" if item.role == "developer" else item.role
    content, files = _content(item.content or "", f"{where}.content", last=last)
    if role != "user" and not isinstance(content, str):
        if files or any(part["type"] != "text" for part in content):
            raise ApiError(
                422,
                "Images and files can be in the messages of users only.",
                code="image_not_allowed",
                param=f"{where}.content",
            )
        content = "\n".join(part["text"] for part in content)
    return {"role": role, "content": content}, files


def _content(
    content: str | list[Content], where: str, *, last: bool
) -> tuple[str | list[dict[str, Any]], tuple[Attachment, ...]]:
    """The content that stays in the message, and the files that go beside it."""
    if isinstance(content, str):
        return content, ()
    kept: list[dict[str, Any]] = []
    files: list[Attachment] = []
    for at, part in enumerate(content):
        param = f"{where}[{at}]"
        match part:
            case InputText(text=text) | OutputText(text=text) | Refusal(refusal=text):
                kept.append({"type": "text", "text": text})
            case InputImage(image_url=url):
                image = attachment_from_data(url, name="", param=param)
                if last:
                    files.append(image)
                else:
                    kept.append({"type": "image_url", "image_url": {"url": url}})
            case InputFile(file_data=given, filename=name):
                files.append(attachment_from_data(given, name=name or "", param=param))
    return kept, tuple(files)
