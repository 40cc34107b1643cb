"""Files that came with messages, kept in the workspace, where the model's tools can open them."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import Final

import trio

from nanobot.errors import ToolError
from nanobot.tools import Workspace

from ._api_error import ApiError
from ._question import Attachment

__all__ = ["Uploads", "file_name"]

_PLACE: Final = ".nanobot/uploads"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME: Final = 80


def file_name(attachment: Attachment) -> str:
    """A file name for an attachment: a digest of its content, so that the same file is kept once, and the client's name
    for it as far as that is harmless."""
    digest = hashlib.sha256(attachment.content).hexdigest()[:16]
    last = re.split(r"[/\\]", attachment.name)[-1]
    plain = _UNSAFE.sub("_", last).lstrip(".")[-_LONGEST_NAME:]
    return f"{digest}-{plain or 'file'}"


class Uploads:
    """The folder for them."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = Workspace(workspace)

    @asynccontextmanager
    async def kept(
        self, attachments: Sequence[Attachment], *, ephemeral: bool
    ) -> AsyncIterator[list[str]]:
        """Write the attachments and give their paths; ephemeral ones are removed at the end of the block.

        Raises:
          ApiError: 500 if they cannot be written.
        """
        if not attachments:
            yield []
            return
        folder = f"{_PLACE}/ephemeral-{token_hex(8)}" if ephemeral else _PLACE
        try:
            yield await trio.to_thread.run_sync(self._write, folder, tuple(attachments))
        finally:
            if ephemeral:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._remove, folder)

    def _write(self, folder: str, attachments: tuple[Attachment, ...]) -> list[str]:
        paths = []
        for attachment in attachments:
            path = f"{folder}/{file_name(attachment)}"
            try:
                self._workspace.create_file(path, attachment.content)
            except FileExistsError:
                pass  # the same file came before
            except ToolError as error:
                raise ApiError(500, str(error), code="upload_failed") from error
            paths.append(str(self._workspace.root / path))
        return paths

    def _remove(self, folder: str) -> None:
        shutil.rmtree(self._workspace.root / folder, ignore_errors=True)
