"""The text of a document, read by a program that can be killed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeAlias

import trio

from nanobot.errors import ToolError

from ._document_reader import CANNOT_BE_READ, NOT_INSTALLED

__all__ = ["DocumentKind", "document_kind", "document_text"]

DocumentKind: TypeAlias = Literal["pdf", "docx", "xlsx"]

_PROGRAM: Final = Path(__file__).with_name("_document_reader.py")

_SLOWEST_S: Final = 45.0
"""Twenty dense pages take 2 s."""


def document_kind(first: bytes, file: BinaryIO) -> DocumentKind | None:
    """What kind of document a file is, if it is one; reads the table of contents of an archive. Blocks."""
    if first.startswith(b"%PDF-"):
        return "pdf"
    if not first.startswith(b"PK\x03\x04"):
        return None
    # deferred: nearly no file that is read is an archive
    import zipfile

    try:
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None
    if "word/document.xml" in names:
        return "docx"
    return "xlsx" if "xl/workbook.xml" in names else None


async def document_text(file: BinaryIO, kind: DocumentKind, pages: str, name: str) -> bytes:
    """Read a document, from its beginning; returns UTF-8, 80 MB at most.

    Raises:
      ToolError: It cannot be read, or the extra `documents` is missing.

    Cancellation: the program is dead when this returns.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        raise ToolError(f"{name} cannot be read here, for Python is part of another program.")
    with trio.move_on_after(_SLOWEST_S):
        done = await trio.run_process(
            [sys.executable, "-I", str(_PROGRAM), kind, pages],
            stdin=file,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            deliver_cancel=_kill,
        )
        said = done.stderr.decode("utf-8", "replace").strip()
        if done.returncode == NOT_INSTALLED:
            raise ToolError(
                f"{name} needs the extra `documents`, which is not installed: pip install 'nanobot-ai[documents]'."
            )
        if done.returncode:
            known = done.returncode == CANNOT_BE_READ
            raise ToolError(f"{name} cannot be read: {said if known else 'its reader broke off'}.")
        return bytes(done.stdout)
    raise ToolError(f"{name} takes longer than {_SLOWEST_S:g} s to read, and was given up.")


async def _kill(process: trio.Process) -> None:
    process.kill()
