"""From our messages and tools to the bytes of a Responses request.

Each message is encoded by itself, into input items, and the body is put together from the pieces, so that whoever
keeps the pieces of a history encodes only what is new.

Source: https://developers.openai.com/api/reference/resources/responses/methods/create
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from nanobot.messages import (
    AssistantMessage,
    FilePart,
    ImagePart,
    Message,
    Part,
    SystemMessage,
    TextPart,
    ThinkingBlock,
    ToolCall,
    ToolMessage,
    ToolSpec,
    UserMessage,
)

from .._images import Images, find_image, is_web_image, unseen_image
from .._known_models import accepts_temperature, known_model, reasons_always
from .._provider import ModelRequest
from .._reasoning_items import answer_pieces, is_ours
from .._request_body import (
    HISTORY,
    NOTHING_SAID,
    body_with_history,
    file_reference,
    fitting_call_id,
    fitting_tool_name,
    json_bytes,
    legal_arguments,
    merged,
)
from ._decode import REASONING

__all__ = ["EncodedMessage", "encode_body", "encode_message", "encode_tools"]

_LEGAL_CALL_ID: Final = re.compile(r"[!-~]{1,64}")
"""The service refuses ids of more than 64 characters."""

_LEAST_OUTPUT_TOKENS: Final = 16
"""The service refuses a lower limit."""


class EncodedMessage(Struct, frozen=True, gc=False):
    """One message as the input items that go on the wire; `system` is its text, too, if it is a system message."""

    items: tuple[bytes, ...]
    system: str | None = None


def encode_message(
    message: Message, images: Images | None = None, *, provider: str
) -> EncodedMessage:
    """Encode one message. The same arguments give the same bytes.

    Args:
      message: Any of the four kinds. What a user message lists under `media` is not sent: whoever shows the
        history to the model has turned it into parts.
      images: What `read_images` returned for the image parts that are files; one that is missing is sent as a
        text that says so.
      provider: The provider's name: reasoning of another one is not sent.
    """
    known = images or {}
    match message:
        case SystemMessage(content=content):
            return EncodedMessage((_message("system", [_text(content or NOTHING_SAID)]),), content)
        case UserMessage(content=content):
            shown = _content(content or NOTHING_SAID, known)
            return EncodedMessage((_message("user", shown),))
        case AssistantMessage():
            return EncodedMessage(_answer(message, provider))
        case ToolMessage():
            return EncodedMessage((_result(message, known),))


def encode_tools(tools: Sequence[ToolSpec]) -> bytes:
    """Encode the tools that are offered, as the JSON array that the body takes.

    Not strict: that would make every parameter required.
    """
    return json_bytes(
        [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                "strict": False,
            }
            for tool in tools
        ]
    )


def encode_body(
    request: ModelRequest,
    messages: Iterable[EncodedMessage],
    tools: bytes,
    *,
    extra_body: Mapping[str, Any] | None = None,
) -> bytes:
    """Put a request's body together from encoded pieces.

    System messages at the beginning are the instructions; a later one keeps its place. The service is told to
    store nothing, and so to return its reasoning encrypted where the model reasons. `extra_body` (the endpoint's)
    and then `request.extra_body` are merged in last, object into object, and win.
    """
    instructions, items = _input(messages)
    known = known_model(request.model)
    effort = request.reasoning_effort
    reasons = effort not in (None, "none")
    if known is not None and known.reasoning is not None:
        reasons = known.reasoning != "none"
    fields: dict[str, Any] = {"model": request.model}
    if instructions:
        fields["instructions"] = instructions
    if request.tools:
        fields["tools"] = msgspec.Raw(tools)
        if request.tool_choice != "auto":  # which is what a service does with tools unasked
            fields["tool_choice"] = request.tool_choice
    fields["input"] = HISTORY
    if request.max_tokens is not None:
        fields["max_output_tokens"] = max(_LEAST_OUTPUT_TOKENS, request.max_tokens)
    if request.temperature is not None and accepts_temperature(request.model):
        fields["temperature"] = request.temperature
    if effort is not None and (known is None or known.reasoning not in ("none", "always")):
        least = effort == "none" and reasons_always(request.model)
        fields["reasoning"] = _reasoning_settings("low" if least else effort)
    if request.output is not None:
        fields["text"] = {
            "format": {
                "type": "json_schema",
                "name": request.output.name,
                "schema": request.output.schema,
                "strict": True,
            }
        }
    if reasons:
        fields["include"] = ["reasoning.encrypted_content"]
    fields["store"] = False
    fields["stream"] = True
    for extra in (extra_body, request.extra_body):
        if extra:
            fields = merged(fields, extra)
    return body_with_history(fields, items)


def _input(messages: Iterable[EncodedMessage]) -> tuple[str, list[bytes]]:
    instructions: list[str] = []
    items: list[bytes] = []
    for message in messages:
        if message.system is not None and not items:
            instructions.append(message.system)
        else:
            items += message.items
    return "\n\n".join(instructions), items


def _reasoning_settings(effort: str) -> dict[str, str]:
    if effort == "none":
        return {"effort": effort}
    if effort == "adaptive":  # the model decides
        return {"summary": "auto"}
    return {"effort": effort, "summary": "auto"}


def _message(role: str, content: str | list[dict[str, Any]]) -> bytes:
    return json_bytes({"type": "message", "role": role, "content": content})


def _content(content: str | tuple[Part, ...], images: Images) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [_text(content)]
    return [_part(part, images) for part in content]


def _part(part: Part, images: Images) -> dict[str, Any]:
    match part:
        case TextPart(text=text):
            return _text(text)
        case ImagePart(source=source):
            if is_web_image(source):
                url = source
            elif (image := find_image(part, images)) is not None:
                url = image.data_url
            else:
                return _text(unseen_image(part))
            return {"type": "input_image", "image_url": url, "detail": "auto"}
        case FilePart():
            return _text(file_reference(part))


def _text(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}


def _answer(message: AssistantMessage, provider: str) -> tuple[bytes, ...]:
    return tuple(
        _answer_item(piece)
        for piece in answer_pieces(
            message, [block for block in message.thinking if _can_return(block, provider)]
        )
    )


def _can_return(block: ThinkingBlock, provider: str) -> bool:
    """Whether the service can use the item: it keeps none itself, so an id alone would be refused."""
    if not is_ours(block, provider, (REASONING,)):
        return False
    return bool(block.payload.get("encrypted_content") or block.text)


def _answer_item(piece: ThinkingBlock | ToolCall | str) -> bytes:
    # Without ids of messages and calls the service does not ask for items that it once put beside them. A message
    # without an id has its text in this form only.
    match piece:
        case str():
            return _message("assistant", piece)
        case ToolCall():
            return json_bytes(
                {
                    "type": "function_call",
                    "call_id": fitting_call_id(piece.id, _LEGAL_CALL_ID),
                    "name": fitting_tool_name(piece.name),
                    "arguments": legal_arguments(piece.arguments),
                }
            )
        case ThinkingBlock():
            return json_bytes(_reasoning_item(piece))


def _reasoning_item(block: ThinkingBlock) -> dict[str, Any]:
    item: dict[str, Any] = {"type": REASONING}
    if identity := block.payload.get("id"):
        item["id"] = identity
    encrypted = block.payload.get("encrypted_content")
    if not encrypted:
        return {
            **item,
            "summary": [],
            "content": [{"type": "reasoning_text", "text": block.text}],
        }
    item["summary"] = [{"type": "summary_text", "text": block.text}] if block.text else []
    item["encrypted_content"] = encrypted
    return item


def _result(message: ToolMessage, images: Images) -> bytes:
    content = message.content
    output: str | list[dict[str, Any]]
    if isinstance(content, str):
        output = content
    else:
        parts = _content(content, images)
        texts = [part["text"] for part in parts if part["type"] == "input_text"]
        # Only what has to be a list is one: not every service reads lists here.
        output = "\n".join(texts) if len(texts) == len(parts) else parts
    return json_bytes(
        {
            "type": "function_call_output",
            "call_id": fitting_call_id(message.tool_call_id, _LEGAL_CALL_ID),
            "output": output,
        }
    )
