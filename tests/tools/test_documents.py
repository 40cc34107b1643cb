"""`read_file` on documents: their text, and that those made to break their reader break nothing else."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import trio

from nanobot.messages import ToolCall
from nanobot.tools import RunContext, ToolResult, Toolset, execute
from nanobot.tools.builtin import read_file
from nanobot.tools.builtin._documents import document_kind


def needs(module: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"needs the extra documents ({module})")


async def called(context: RunContext, path: str, **more: Any) -> ToolResult:
    arguments = json.dumps({"path": path, **more})
    return await execute(ToolCall("1", "read_file", arguments), Toolset([read_file]), context)


def pdf_of(*pages: str) -> bytes:
    """A PDF written by hand, one line of text a page."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>"]
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects.append(f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>".encode())
    objects.append(b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>")
    for n, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents {5 + 2 * n} 0 R"
            "/Resources<</Font<</F1 3 0 R>>>>>>".encode()
        )
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream))
    content, offsets = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return content + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF"
        % (len(objects) + 1, table, len(objects) + 1, len(content))
    )


def archive_of(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return packed.getvalue()


def test_documents_are_known_by_what_is_in_them() -> None:
    for content, kind in (
        (pdf_of("x"), "pdf"),
        (archive_of(word__document_xml=b""), "docx"),
        (archive_of(xl__workbook_xml=b""), "xlsx"),
        (archive_of(a_txt=b""), None),
        (b"PK\x03\x04broken", None),
        (b"text", None),
    ):
        assert document_kind(content[:100], io.BytesIO(content)) == kind


async def test_without_the_extra_the_model_is_told_what_to_install(
    context: RunContext, root: Path
) -> None:
    if importlib.util.find_spec("pypdf"):
        pytest.skip("the extra documents is installed")
    (root / "a.pdf").write_bytes(pdf_of("hello"))
    assert "pip install 'nanobot-ai[documents]'" in str((await called(context, "a.pdf")).error)


async def test_other_archives_are_still_refused(context: RunContext, root: Path) -> None:
    (root / "a.zip").write_bytes(archive_of(a_txt=b"x"))
    assert "a ZIP archive" in str((await called(context, "a.zip")).error)


@needs("pypdf")
async def test_a_pdf_is_read_page_by_page(context: RunContext, root: Path) -> None:
    (root / "a.pdf").write_bytes(pdf_of(*(f"text {n}" for n in range(1, 31))))
    shown = str((await called(context, "a.pdf")).message.content)
    assert "1| --- Page 1 of 30 ---\n2| text 1\n" in shown
    assert "text 20" in shown
    assert "text 21" not in shown
    assert 'Use pages="21-30" to go on.' in shown
    shown = str((await called(context, "a.pdf", pages="22-23")).message.content)
    assert "text 22" in shown
    assert "text 24" not in shown
    assert "it has 30" in str((await called(context, "a.pdf", pages="31")).error)
    assert "write it like 3 or 1-5" in str((await called(context, "a.pdf", pages="all")).error)


@needs("docx")
async def test_a_word_document_is_read_with_its_tables(context: RunContext, root: Path) -> None:
    import docx

    document = docx.Document()
    document.add_paragraph("Before")
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "a", "b"
    document.add_paragraph("After")
    document.save(str(root / "a.docx"))
    shown = str((await called(context, "a.docx")).message.content)
    assert shown.startswith("1| Before\n2| a | b\n3| After\n")


@needs("openpyxl")
async def test_a_workbook_is_read_sheet_by_sheet(context: RunContext, root: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    book.active.title = "First"
    book.active.append(["name", 1, None, 2.5])
    book.create_sheet("Second").append(["x"])
    book.save(str(root / "a.xlsx"))
    shown = str((await called(context, "a.xlsx")).message.content)
    assert shown.startswith(
        "1| --- Sheet First ---\n2| name\t1\t\t2.5\n3| --- Sheet Second ---\n4| x\n"
    )


@needs("pypdf")
async def test_a_broken_document_is_an_error_in_words(context: RunContext, root: Path) -> None:
    content = pdf_of("hello")
    rng = random.Random(1)
    for _ in range(8):
        cut = bytearray(content[: rng.randint(5, len(content))])
        for _ in range(10):
            cut[rng.randrange(5, len(cut))] = rng.randrange(256)
        (root / "a.pdf").write_bytes(bytes(cut))
        result = await called(context, "a.pdf")
        assert result.ok or "cannot be read" in str(result.error)


@needs("docx")
@pytest.mark.parametrize("name", ["word__document_xml", "xl__workbook_xml"])
async def test_a_bomb_breaks_only_its_reader(name: str, context: RunContext, root: Path) -> None:
    bomb = archive_of(**{name: b"<a>" * 100_000_000, "_rels__rels": b"<a/>"})
    (root / "bomb").write_bytes(bomb)
    result = await called(context, "bomb")
    assert not result.ok
    assert "cannot be read" in str(result.error)


async def test_a_cancelled_reader_is_dead_and_its_file_closed(
    context: RunContext, root: Path
) -> None:
    (root / "a.pdf").write_bytes(pdf_of("hello"))
    await called(context, "a.pdf")
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    rng = random.Random(random.getrandbits(64))

    async def one() -> None:
        with trio.move_on_after(rng.uniform(0, 0.2)):
            await called(context, "a.pdf")

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)
    assert len(os.listdir("/proc/self/fd")) <= descriptors  # noqa: PTH208
