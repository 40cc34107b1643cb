"""The program that turns a document into text: PDF, Word, Excel.

Started by `_documents` as a file, with the document as stdin and its kind and pages as arguments. Such files are made by
strangers, and what reads them is large: it may loop, or unpack a kilobyte to gigabytes. Here it can be killed, and its
memory is bounded. It writes text, and exits with one of the codes below, and a reason on stderr, if it cannot.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator

__all__ = ["CANNOT_BE_READ", "NOT_INSTALLED"]

NOT_INSTALLED = 3
CANNOT_BE_READ = 4

_MOST_MEMORY = 2 * 1024**3
_MOST_CHARS = 20_000_000
_PAGES_AT_ONCE = 20
_MOST_CELLS = 2_000_000


class _Refused(Exception):
    """The document is fine, but not what was asked of it."""


def main(kind: str, pages: str) -> int:
    """Write the text of the document on stdin; return the exit code."""
    _bound_memory()
    warnings.simplefilter("ignore")
    readers = {"pdf": _pdf, "docx": _docx, "xlsx": _xlsx}
    written = 0
    try:
        for line in readers[kind](pages):
            written += len(line) + 1
            if written > _MOST_CHARS:
                print("(The text goes on; this is as much as is read.)")
                break
            print(line)
    except ImportError as error:
        print(error.name, file=sys.stderr)
        return NOT_INSTALLED
    except _Refused as error:
        print(error, file=sys.stderr)
        return CANNOT_BE_READ
    except MemoryError:
        print("it needs too much memory", file=sys.stderr)
        return CANNOT_BE_READ
    except Exception as error:  # noqa: BLE001 - libraries raise what they like about broken files
        print(f"{type(error).__name__}: {error}".split("\n")[0][:300], file=sys.stderr)
        return CANNOT_BE_READ
    return 0


def _bound_memory() -> None:
    try:
        import resource  # deferred: not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    except (ImportError, OSError, ValueError):
        pass


def _pdf(pages: str) -> Iterator[str]:
    from pypdf import PdfReader  # deferred: an extra

    logging.disable()
    reader = PdfReader(sys.stdin.buffer)
    if reader.is_encrypted and not reader.decrypt(""):
        raise _Refused("it is encrypted")
    total = len(reader.pages)
    first, last = _range(pages, total)
    for number in range(first, last + 1):
        yield f"--- Page {number} of {total} ---"
        yield (
            reader.pages[number - 1].extract_text() or "(no text on this page; it may be a picture)"
        )
    if last < total:
        yield f'(Pages {first}-{last} of {total}. Use pages="{last + 1}-{min(last + _PAGES_AT_ONCE, total)}" to go on.)'


def _range(pages: str, total: int) -> tuple[int, int]:
    first, _, last = (part.strip() for part in pages.partition("-"))
    try:
        start = int(first) if first else 1
        end = int(last) if last else (start if first else _PAGES_AT_ONCE)
    except ValueError:
        raise _Refused(f"pages is {pages!r}; write it like 3 or 1-5") from None
    if not 1 <= start <= total or end < start:
        raise _Refused(f"there are no pages {pages}; it has {total}")
    return start, min(end, total, start + _PAGES_AT_ONCE - 1)


def _docx(pages: str) -> Iterator[str]:
    import docx  # deferred: an extra

    for item in docx.Document(sys.stdin.buffer).iter_inner_content():
        if hasattr(item, "rows"):
            for row in item.rows:
                yield " | ".join(" ".join(cell.text.split()) for cell in row.cells)
        else:
            yield item.text


def _xlsx(pages: str) -> Iterator[str]:
    import openpyxl  # deferred: an extra

    book = openpyxl.load_workbook(sys.stdin.buffer, read_only=True, data_only=True)
    cells = 0
    for sheet in book.worksheets:
        yield f"--- Sheet {sheet.title} ---"
        for row in sheet.iter_rows(values_only=True):
            cells += len(row)
            if cells > _MOST_CELLS:
                yield "(There are more cells; this is as much as is read.)"
                return
            if any(value is not None for value in row):
                yield "\t".join("" if value is None else str(value) for value in row).rstrip("\t")


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]  # it is a real stream
    sys.exit(main(sys.argv[1], sys.argv[2]))
