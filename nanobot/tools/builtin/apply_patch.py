"""`apply_patch`: edits of several files, all of them or none.

What is promised. A failed edit, a full disk, a file that may not be written or that somebody changes meanwhile, a
cancel: no file is changed. Every new content is on the disk before the first file is replaced, and others who write
through a workspace are kept out from the last look at the old contents until the last file is replaced; once that has
begun, a cancel waits for its end. Should a rename fail then, those before it are put back, each as the very same file,
unless a program that knows nothing of us has changed it since; the error says so. A file is always whole.

What is not. A process that is killed between two renames, or a power loss there, leaves the files before it new and
those behind it old, for no file system renames several files at once; it takes about 0.1 ms per file. Beside them lie
hidden files `.….tmp` with the contents that were replaced and those that were not put in place. Who reads all files
at that moment may see the same mixture.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated, Final, Literal

import trio
from msgspec import Meta, Struct

from nanobot.errors import ToolError

from .._replacement import Before, ContentChanged
from .._run_context import RunContext
from .._threads import in_file_thread
from .._tool import tool
from .._workspace import StagedFile, Workspace
from ._diff import diff_of
from ._text import EditableText, bytes_from_text, editable_from_bytes, read_editable
from .edit_file import Choice, edited_text

__all__ = ["Edit", "Patch", "apply_patch", "publish_all"]

_ATTEMPTS: Final = 50
"""How often a patch is made anew because others changed one of its files meanwhile."""

_MOST_BYTES: Final = 32 * 1024 * 1024
"""Of all files together, before and after: they are held in memory."""


class Edit(Struct, frozen=True, forbid_unknown_fields=True):
    """One change of one file."""

    path: str
    action: Annotated[
        Literal["replace", "add"], Meta(description="add: append to the file, or create it.")
    ]
    old_text: Annotated[
        str, Meta(description="For replace: text that occurs once in the file.")
    ] = ""
    new_text: str = ""


@tool(on_host=False, timeout_s=120)
async def apply_patch(
    context: RunContext,
    edits: Annotated[list[Edit], Meta(min_length=1, max_length=20)],
    dry_run: Annotated[bool, Meta(description="Only show what would change.")] = False,
) -> str:
    """Edit several files at once: if one edit fails, no file is changed. Edits apply in order."""
    return await in_file_thread(lambda: _applied(context, edits, dry_run))


def _applied(context: RunContext, edits: Sequence[Edit], dry_run: bool) -> str:
    for _ in range(_ATTEMPTS):
        patch = Patch(context.confined)
        for number, edit in enumerate(edits, 1):
            trio.from_thread.check_cancelled()
            try:
                patch.add(edit)
            except ToolError as error:
                raise ToolError(f"Edit {number}: {error} No file was changed.") from error
        if dry_run:
            return patch.summary("Would change", diffs=True)
        try:
            patch.publish()
        except ContentChanged:
            continue
        return patch.summary("Changed", diffs=False)
    raise ToolError("The files change faster than they can be edited. No file was changed.")


class _File:
    """A file that a patch changes."""

    def __init__(self, path: str, name: str, before: EditableText | None) -> None:
        self.path = path
        self.name = name
        self.before = before
        self.now = before or editable_from_bytes(b"")


class Patch:
    """What some files will be, worked out in memory. Methods block."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._files: dict[str, _File] = {}
        self._bytes = 0

    def add(self, edit: Edit) -> None:
        """Work out one more change.

        Raises:
          ToolError: It cannot be made.
        """
        new = bytes_from_text(edit.new_text, "new_text")
        bytes_from_text(edit.old_text, "old_text")
        file = self._file(edit)
        if edit.action == "add":
            content = self._with_more(file.now, new.decode())
        else:
            if not edit.old_text:
                raise ToolError(
                    f"old_text is empty; say what to replace in {file.name}, or use add."
                )
            if edit.old_text == edit.new_text:
                raise ToolError("old_text and new_text are the same.")
            _, content = edited_text(file.now, edit.old_text, edit.new_text, Choice(), file.name)
        self._bytes += len(content)
        if self._bytes > _MOST_BYTES:
            raise ToolError(
                f"The files are too large together: {_MOST_BYTES:,} bytes are the limit."
            )
        file.now = editable_from_bytes(content)

    def _with_more(self, text: EditableText, more: str) -> bytes:
        end = len(text.text)
        between = "\n" if end and not text.text.endswith("\n") else ""
        after = "" if more.endswith("\n") or not more else "\n"
        more = (between + more + after).replace("\r\n", "\n")
        return text.replaced([(end, end, more)])

    def _file(self, edit: Edit) -> _File:
        if edit.action == "add" and edit.old_text:
            raise ToolError("add takes no old_text; use replace to change what is there.")
        exists = True
        try:
            with self._workspace.open_read(edit.path) as opened:
                key = str(opened.name)  # one file, whatever it is called
        except ToolError as error:
            # One that is missing is known by its name, and the way to it is judged when it is created.
            key = os.path.normpath(edit.path)
            exists = False
            made_before = edit.action == "add" or key in self._files
            if not isinstance(error.__cause__, FileNotFoundError) or not made_before:
                raise
        if key not in self._files:
            before = read_editable(self._workspace, edit.path) if exists else None
            self._bytes += len(before.content) if before else 0
            self._files[key] = _File(edit.path, self._workspace.display(edit.path), before)
        return self._files[key]

    def publish(self) -> None:
        """Change all files, or none.

        Raises:
          ContentChanged: Others have changed one meanwhile; none is changed.
          ToolError: One cannot be changed, and none is; or the text says which could not be put back.
        """
        with ExitStack() as stack:
            staged: list[StagedFile] = []
            for file in self._files.values():
                trio.from_thread.check_cancelled()
                expected = Before.NOTHING if file.before is None else file.before.content
                try:
                    draft = self._workspace.stage(
                        file.path, file.now.content, expected=expected, undoable=True
                    )
                except FileExistsError as error:
                    raise ContentChanged(f"{file.name} was created by somebody else.") from error
                except ContentChanged:
                    raise
                except ToolError as error:
                    raise ToolError(f"{error} No file was changed.") from error
                staged.append(stack.enter_context(draft))
            # Who reads one of them to edit it sees all changed, or none.
            StagedFile.lock_all(staged)
            trio.from_thread.check_cancelled()  # for the last time: what has begun is brought to its end
            publish_all(staged, [file.name for file in self._files.values()])

    def summary(self, verb: str, *, diffs: bool) -> str:
        """What became of each file, in a line."""
        lines, shown = [], []
        for file in self._files.values():
            old = file.before.text if file.before else ""
            diff = diff_of(old, file.now.text, file.name)
            kind = "update" if file.before else "add"
            lines.append(f"- {kind} {file.name} (+{diff.added:,}/-{diff.removed:,})")
            shown.append(diff.text)
        count = f"{len(lines)} {'file' if len(lines) == 1 else 'files'}"
        return "\n".join([f"{verb} {count}:", *lines, *(shown if diffs else [])])


def publish_all(staged: Sequence[StagedFile], names: Sequence[str]) -> None:
    """Put all in their places, or put back those that were replaced before one failed.

    Raises:
      ContentChanged: Others have changed one meanwhile; none is changed.
      ToolError: One cannot be changed, and none is; or the text says which could not be put back.
    """
    done: list[tuple[StagedFile, str]] = []
    try:
        for draft, name in zip(staged, names, strict=True):
            draft.publish()
            done.append((draft, name))
    except (ToolError, FileExistsError) as error:
        left = [f"{name} ({reason})" for name, reason in _undone(done)]
        if left:
            raise ToolError(
                f"{error} These files were changed already, and could not be put back: {', '.join(left)}."
            ) from error
        if isinstance(error, FileExistsError):
            raise ContentChanged(f"{names[len(done)]} was created by somebody else.") from error
        if isinstance(error, ContentChanged):
            raise
        raise ToolError(f"{error} No file was changed.") from error


def _undone(done: list[tuple[StagedFile, str]]) -> list[tuple[str, str]]:
    """Put files back, the last first; return those that could not be, and why."""
    left = []
    for draft, name in reversed(done):
        try:
            draft.undo()
        except ToolError as error:
            left.append((name, str(error)))
    return left
