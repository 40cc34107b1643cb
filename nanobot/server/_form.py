"""`multipart/form-data`: a message with files, from clients that upload."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec import Struct
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from ._api_error import ApiError
from ._chat_request import ChatMessage, ChatRequest
from ._data_url import too_large
from ._limits import MAX_BODY_BYTES, MAX_FILE_BYTES, MAX_FILES
from ._question import Attachment

__all__ = ["Form", "read_form"]

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


class Form(Struct, frozen=True):
    """A form as a request: a chat of one message, and the files beside it."""

    request: ChatRequest
    attachments: tuple[Attachment, ...]


async def read_form(content_type: str, body: bytearray) -> Form:
    """Read a form with the fields `message`, `session_id`, `user`, `model` and `stream`; files may have any name.

    Raises:
      ApiError: 400 if it is no form, or a field is missing or wrong; 413 if a file is too large.
    """
    async with aclosing(_once(bytes(body))) as pieces:
        parser = MultiPartParser(
            Headers({"content-type": content_type}),
            pieces,
            max_files=MAX_FILES,
            max_fields=100,
            max_part_size=MAX_BODY_BYTES,
        )
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise ApiError(
                400, f"The form cannot be read: {error.message}", code="invalid_form"
            ) from error
    fields: dict[str, str] = {}
    attachments: list[Attachment] = []
    try:
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                fields[name] = value
            elif (value.size or 0) > MAX_FILE_BYTES:
                raise too_large(name)
            elif value.size or value.filename:  # else a field for files in which none was chosen
                attachments.append(Attachment(value.filename or "", await value.read()))
    finally:
        for _, value in form.multi_items():
            if isinstance(value, UploadFile):
                value.file.close()
    return Form(_request(fields), tuple(attachments))


def _request(fields: dict[str, str]) -> ChatRequest:
    if not fields.get("message"):
        raise ApiError(
            400,
            "The form has no field `message` with the text of the message.",
            code="missing_field",
            param="message",
        )
    if "files" in fields:
        raise ApiError(
            400, "What is in `files` is not a file.", code="invalid_value", param="files"
        )
    session_id = fields.get("session_id") or None
    if session_id is not None and len(session_id) > 512:
        raise ApiError(400, "A session_id has 512 characters at most.", param="session_id")
    return ChatRequest(
        messages=[ChatMessage("user", fields["message"])],
        model=fields.get("model") or None,
        stream=_boolean(fields.get("stream", ""), "stream"),
        session_id=session_id,
        user=fields.get("user") or None,
    )


def _boolean(text: str, name: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ApiError(400, f"{name} must be true or false, not {text!r:.80}.", param=name)


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:  # noqa: ASYNC900 - Starlette's parser wants one; it is closed
    yield body
