"""From our messages and tools to the bytes of a Messages request.

Each message is encoded by itself, into blocks, and the body is put together from the pieces, so that whoever keeps
the pieces of a history encodes only what is new.

Source: https://platform.claude.com/docs/en/api/messages/create
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

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
from .._provider import ModelRequest
from .._reasoning_items import answer_pieces
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
from ._thinking import returned_thinking, sampling_fields

__all__ = ["EncodedMessage", "encode_body", "encode_message", "encode_tools"]

_LEGAL_CALL_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""The pattern that the service's own validation names."""

_IMAGE_TYPES: Final = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})

_BREAKPOINT: Final = b',"cache_control":{"type":"ephemeral"}}'
"""Replaces the closing brace of the block up to which the service is to keep what it has read."""

_NO_SCHEMA: Final[dict[str, Any]] = {"type": "object"}


class EncodedMessage(Struct, frozen=True, gc=False):
    """One message as the blocks that go on the wire.

    Results of tools are kept apart: they come first in the user's turn, whatever else it holds.
    """

    role: Literal["system", "user", "assistant"]
    blocks: tuple[bytes, ...] = ()
    results: tuple[bytes, ...] = ()


class _Turn(Struct):
    """What one side said: neighboring messages of a role, as the service counts turns."""

    role: str
    results: list[bytes]
    blocks: list[bytes]

    def encoded(self, *, breakpoint: bool) -> bytes:
        blocks = [*self.results, *self.blocks]
        if breakpoint:
            blocks[-1] = _with_breakpoint(blocks[-1])
        return b'{"role":"%b","content":[%b]}' % (self.role.encode(), b",".join(blocks))


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
            return EncodedMessage("system", _text_block(content))
        case UserMessage(content=content):
            blocks = _content(content, known) or _text_block(NOTHING_SAID)
            return EncodedMessage("user", blocks)
        case AssistantMessage():
            return EncodedMessage("assistant", _answer(message, provider))
        case ToolMessage():
            return EncodedMessage("user", results=(_result(message, known),))


def encode_tools(tools: Sequence[ToolSpec]) -> tuple[bytes, ...]:
    """Encode the tools that are offered, one by one."""
    return tuple(
        json_bytes(
            {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
            if tool.description
            else {"name": tool.name, "input_schema": tool.parameters}
        )
        for tool in tools
    )


def encode_body(
    request: ModelRequest,
    messages: Iterable[EncodedMessage],
    tools: Sequence[bytes],
    *,
    provider: str,
    extra_body: Mapping[str, Any] | None = None,
) -> bytes:
    """Put a request's body together from encoded pieces.

    System messages at the beginning are the system prompt; a later one keeps its place, as a text of the user's
    turn in `<system>` tags. `extra_body` (the endpoint's) and then `request.extra_body` are merged in last, object
    into object, and win.

    What the service is to keep of the prompt ends at the system prompt, which the tools stand before, and at the
    user's last turn but one, which the next requests will have as well; inside a turn with tools at the newest
    results, too, since another request follows at once.

    Raises:
      InvalidArgument: There is no such reasoning effort.
    """
    system, turns = _turns(messages)
    tool_choice: dict[str, str] | None = None
    if tools:
        if request.tool_choice != "auto":  # which is what a service does with tools unasked
            tool_choice = {"type": request.tool_choice}
    else:
        # Calls in the history make the service insist on tools, and then these must not be called.
        tools = encode_tools(_called(request.messages))
        tool_choice = {"type": "none"} if tools else None
    fields: dict[str, Any] = {"model": request.model}
    fields |= sampling_fields(
        request.model,
        request.messages,
        provider=provider,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        effort=request.reasoning_effort,
    )
    if request.output is not None:
        fields["output_config"] = {
            **fields.get("output_config", {}),  # which may hold the effort
            "format": {"type": "json_schema", "schema": request.output.schema},
        }
    if tools:
        fields["tools"] = _array(tools, breakpoint=not system)
    if tool_choice is not None:
        fields["tool_choice"] = tool_choice
    if system:
        fields["system"] = _array(system, breakpoint=True)
    fields["messages"] = HISTORY
    fields["stream"] = True
    for extra in (extra_body, request.extra_body):
        if extra:
            fields = merged(fields, extra)
    return body_with_history(fields, _marked(turns))


def _turns(messages: Iterable[EncodedMessage]) -> tuple[list[bytes], list[_Turn]]:
    system: list[bytes] = []
    turns: list[_Turn] = []
    for message in messages:
        role, blocks = message.role, message.blocks
        if role == "system":
            if not turns:
                system += blocks
                continue
            role, blocks = "user", tuple(map(_in_system_tags, blocks))
        if not (blocks or message.results):
            continue
        if not turns or turns[-1].role != role:
            turns.append(_Turn(role, [], []))
        turns[-1].results += message.results
        turns[-1].blocks += blocks
    return system, turns


def _marked(turns: Sequence[_Turn]) -> list[bytes]:
    users = [at for at, turn in enumerate(turns) if turn.role == "user"]
    marked = set(users[-2:-1])
    if users and turns[users[-1]].results:
        marked.add(users[-1])
    return [turn.encoded(breakpoint=at in marked) for at, turn in enumerate(turns)]


def _array(items: Sequence[bytes], *, breakpoint: bool) -> msgspec.Raw:
    last = _with_breakpoint(items[-1]) if breakpoint else items[-1]
    return msgspec.Raw(b"[" + b",".join([*items[:-1], last]) + b"]")


def _with_breakpoint(item: bytes) -> bytes:
    return item[:-1] + _BREAKPOINT


def _in_system_tags(block: bytes) -> bytes:
    text = msgspec.json.decode(block)["text"]
    return json_bytes({"type": "text", "text": f"<system>\n{text}\n</system>"})


def _called(messages: Iterable[Message]) -> list[ToolSpec]:
    """Return stand-ins for the tools that a history mentions, in the order of their first call."""
    names = {
        fitting_tool_name(call.name): None
        for message in messages
        if isinstance(message, AssistantMessage)
        for call in message.tool_calls
    }
    return [ToolSpec(name, "", _NO_SCHEMA) for name in names]


def _content(content: str | tuple[Part, ...], images: Images) -> tuple[bytes, ...]:
    if isinstance(content, str):
        return _text_block(content)
    return tuple(block for part in content for block in _part(part, images))


def _part(part: Part, images: Images) -> tuple[bytes, ...]:
    match part:
        case TextPart(text=text):
            return _text_block(text)
        case ImagePart():
            return _image(part, images)
        case FilePart():
            return _text_block(file_reference(part))


def _text_block(text: str) -> tuple[bytes, ...]:
    """The service accepts no text that is empty or all white space."""
    return () if not text or text.isspace() else (json_bytes({"type": "text", "text": text}),)


def _image(part: ImagePart, images: Images) -> tuple[bytes, ...]:
    if is_web_image(part.source):
        source = {"type": "url", "url": part.source}
    elif (image := find_image(part, images)) is None:
        return _text_block(unseen_image(part))
    elif image.media_type not in _IMAGE_TYPES:
        return _text_block(
            unseen_image(part, f"of a type that cannot be shown, {image.media_type}")
        )
    else:
        source = {"type": "base64", "media_type": image.media_type, "data": image.base64}
    return (json_bytes({"type": "image", "source": source}),)


def _answer(message: AssistantMessage, provider: str) -> tuple[bytes, ...]:
    blocks: list[bytes] = []
    for piece in answer_pieces(message, returned_thinking(message, provider)):
        match piece:
            case str():
                blocks += _text_block(piece)
            case ToolCall():
                blocks.append(_tool_use(piece))
            case ThinkingBlock():
                blocks.append(_thinking(piece))
    return tuple(blocks)


def _tool_use(call: ToolCall) -> bytes:
    # The arguments are JSON already: they go in as they are.
    arguments = msgspec.Raw(legal_arguments(call.arguments).encode())
    return json_bytes(
        {
            "type": "tool_use",
            "id": fitting_call_id(call.id, _LEGAL_CALL_ID),
            "name": fitting_tool_name(call.name),
            "input": arguments,
        }
    )


def _thinking(block: ThinkingBlock) -> bytes:
    if block.kind == "redacted_thinking":
        return json_bytes({"type": block.kind, "data": block.payload.get("data", "")})
    return json_bytes({"type": block.kind, "thinking": block.text, "signature": block.signature})


def _result(message: ToolMessage, images: Images) -> bytes:
    fields: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": fitting_call_id(message.tool_call_id, _LEGAL_CALL_ID),
    }
    if isinstance(message.content, str):
        if message.content:
            fields["content"] = message.content
    elif blocks := _content(message.content, images):
        fields["content"] = [msgspec.Raw(block) for block in blocks]
    if message.outcome != "ok":
        fields["is_error"] = True
    return json_bytes(fields)
