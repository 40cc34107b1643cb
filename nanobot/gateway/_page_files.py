"""The files of the page, in memory, and how they are sent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

__all__ = ["PageFile", "file_response", "json_response", "read_page"]

_PAGE: Final = Path(__file__).with_name("page")
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class PageFile(Struct, frozen=True):
    """One file of the page."""

    content: bytes
    media_type: str
    etag: str


def read_page() -> dict[str, PageFile]:
    """Read the files of the page, by name; blocks for as long as a disk takes."""
    files = {}
    for path in sorted(_PAGE.rglob("*")):
        if path.is_file() and path.suffix in _TYPES:
            content = path.read_bytes()
            files[path.relative_to(_PAGE).as_posix()] = PageFile(
                content, _TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            )
    return files


def json_response(
    content: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer that nobody keeps."""
    return JSONResponse(
        content, status, {**_HEADERS, "cache-control": "no-store", **(headers or {})}
    )


def file_response(request: Request, file: PageFile, headers: Mapping[str, str]) -> Response:
    """A file, or that the client has it."""
    all_headers = {**_HEADERS, "cache-control": "no-cache", "etag": file.etag, **headers}
    if request.headers.get("if-none-match") == file.etag and not headers:
        return Response(status_code=304, headers=all_headers)
    return Response(file.content, headers={**all_headers, "content-type": file.media_type})
