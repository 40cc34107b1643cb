"""A tool of an MCP server, as the model is offered it."""

from __future__ import annotations

import base64
import binascii
import mimetypes
from typing import Any, Final

from nanobot.errors import ToolError
from nanobot.messages import MAX_IMAGE_BYTES, FilePart, ImagePart, Part, TextPart, ToolSpec

from .._cross import Cross
from .._file_type import FIRST_BYTES, image_type
from .._kept_results import keep_file
from .._run_context import RunContext
from .._threads import in_file_thread
from .._tool import ToolTraits
from ._server import Server
from ._session import Answer, Blob, ListedTool

__all__ = ["McpTool"]

_MOST_DESCRIPTION: Final = 4000
"""Characters of a description, of which a model is shown every one in every request."""


class McpTool:
    """One tool of a server, under the name that the model calls it by.

    Attributes:
      spec: What the model is told: the server's own description and schema.
      traits: How it is to be run: as read-only as the server says it is, and within its `toolTimeout`.
      origin: The server and its name for the tool.
    """

    def __init__(self, name: str, server: Server, listed: ListedTool) -> None:
        description = listed.description
        if len(description) > _MOST_DESCRIPTION:
            description = f"{description[: _MOST_DESCRIPTION - 1]}…"
        self.spec: Final = ToolSpec(name, description, _schema(listed.schema))
        self.traits: Final = ToolTraits(
            timeout_s=server.settings.tool_timeout,
            read_only=listed.read_only,
            idempotent=listed.idempotent,
        )
        self.origin: Final = f"MCP server {server.name!r}, tool {listed.name!r}"
        self._server = server
        self._listed = listed

    def __repr__(self) -> str:
        return f"<tool {self.spec.name}: {self.origin}>"

    def convert(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments as they are: the server checks them, and says what it expects."""
        return arguments

    async def invoke(
        self, arguments: dict[str, Any], context: RunContext, cross: Cross
    ) -> str | tuple[Part, ...]:
        """Have the server run the tool, and return what it sent; images and other bytes are kept in the workspace.

        Raises:
          ToolError: It failed, or the server did.
        """
        answer = await self._server.call(self._listed.name, arguments)
        if not answer.ok:
            texts = [piece for piece in answer.content if isinstance(piece, str)]
            raise ToolError("\n".join(texts).strip() or "the tool failed and did not say why")
        if all(isinstance(piece, str) for piece in answer.content):
            return "\n".join(piece for piece in answer.content if isinstance(piece, str))
        return await in_file_thread(lambda: _parts(answer, context))


def _parts(answer: Answer, context: RunContext) -> tuple[Part, ...]:
    parts: list[Part] = []
    for number, piece in enumerate(answer.content):
        if isinstance(piece, str):
            parts.append(TextPart(piece))
        else:
            parts += _kept(piece, context, number)
    return tuple(parts)


def _kept(blob: Blob, context: RunContext, number: int) -> tuple[Part, ...]:
    """Put bytes into a file, which is what history may refer to."""
    try:
        content = base64.b64decode(blob.base64, validate=True)
    except (binascii.Error, ValueError):
        return (TextPart(f"[{blob.origin}: what was sent is no base64]"),)
    image = image_type(content[:FIRST_BYTES])
    media_type = image or blob.media_type
    suffix = mimetypes.guess_extension(media_type.partition(";")[0].strip()) or ".bin"
    try:
        path = keep_file(
            context.confined,
            context.session_key,
            f"{context.tool_call_id}-{number}",
            content,
            suffix,
        )
    except ToolError as error:
        return (
            TextPart(f"[{blob.origin}: {media_type}, {len(content):,} bytes, not kept: {error}]"),
        )
    told = TextPart(f"[{blob.origin}: {media_type}, {len(content):,} bytes, in the file {path}]")
    absolute = str(context.workspace / path)
    if image and len(content) <= MAX_IMAGE_BYTES:
        return told, ImagePart(absolute, image)
    return (told,) if image else (told, FilePart(absolute, media_type))


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema as the APIs of models want it: an object with properties. What else is in it is the server's business."""
    shaped = {name: value for name, value in schema.items() if name != "$schema"}
    shaped["type"] = "object"
    if not isinstance(shaped.get("properties"), dict):
        shaped["properties"] = {}
    return shaped
