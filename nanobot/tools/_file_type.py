"""What kind of file some first bytes begin."""

from __future__ import annotations

import codecs
from typing import Final

__all__ = ["FIRST_BYTES", "binary_type", "image_type"]

FIRST_BYTES: Final = 8192
"""How many bytes are enough to tell."""

_BINARY: Final[tuple[tuple[bytes, str], ...]] = (
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"(\xb5/\xfd", "a Zstandard archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x7fELF", "a program (ELF)"),
    (b"MZ", "a program (Windows)"),
    (b"\xcf\xfa\xed\xfe", "a program (macOS)"),
    (b"\xca\xfe\xba\xbe", "a program (macOS) or a Java class"),
    (b"\x00asm", "a WebAssembly module"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
    (b"OggS", "Ogg audio or video"),
    (b"ID3", "MP3 audio"),
    (b"fLaC", "FLAC audio"),
    (b"RIFF", "WAV audio or AVI video"),
    (b"\x1aE\xdf\xa3", "Matroska or WebM video"),
    (b"BM", "a BMP image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"\x00\x00\x01\x00", "an icon"),
)

_NEVER_TEXT: Final = (
    b"%PDF-",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"\xfd7zXZ",
    b"(\xb5/\xfd",
    b"7z\xbc\xaf",
    b"Rar!\x1a",
    b"\x1aE\xdf\xa3",
)
"""Those that may do without a NUL for long, and that no text begins with."""


def image_type(first: bytes) -> str | None:
    """The media type of an image that models can look at: PNG, JPEG, GIF or WebP; else None."""
    if first.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if first.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if first.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if first.startswith(b"RIFF") and first[8:12] == b"WEBP":
        return "image/webp"
    return None


def binary_type(first: bytes) -> str | None:
    """What a file is, in words, if it is no text; None for text, which has no NUL unless it is marked as UTF-16."""
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return None
    known = next((name for magic, name in _BINARY if first.startswith(magic)), None)
    if b"\0" in first[:FIRST_BYTES]:
        return known or "a binary file"
    return known if first.startswith(_NEVER_TEXT) else None
