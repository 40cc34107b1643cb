"""The files of a workspace that the model is shown, read again only when they changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Final, Generic, TypeVar

import trio
from msgspec import Struct

from nanobot._regular_file import file_status, open_regular, read_up_to
from nanobot.memory import RECENT_BYTES, HistoryEntry, entries_in
from nanobot.messages import without_surrogates

from ._skills import Skill, skill_from_text

__all__ = ["WorkspaceFiles", "WorkspaceTexts"]

T = TypeVar("T")

# 32 KiB is some 8,000 tokens: more in every request costs more than reading the file when it is needed.
_TEXT_BYTES: Final = 32 * 1024
# Frontmatter of the longest description, with room for the entries that are not ours.
_SKILL_BYTES: Final = 8 * 1024
_MAX_SKILLS: Final = 200
_MAX_SKILL_FOLDERS: Final = 2_000
# A file that changed a moment ago may change again without its times showing it: they tick every 2 s on FAT, 1 s on
# HFS+, some ms on ext4. Until that long after its last change a file is read each time.
_TICK_NS: Final = 2_000_000_000


class WorkspaceTexts(Struct, frozen=True):
    """What the files say; "" for one that is missing or blank. Of the history, the latest entries.

    A file that could not be read, or not to its end, says so in brackets where its text would stand.
    """

    agents: str = ""
    soul: str = ""
    user: str = ""
    memory: str = ""
    skills: tuple[Skill, ...] = ()
    skills_left_out: int = 0
    history: tuple[HistoryEntry, ...] = ()


class WorkspaceFiles:
    """Reads AGENTS.md, SOUL.md, USER.md, memory/MEMORY.md, memory/history.jsonl and skills/*/SKILL.md of one workspace.

    Hostile files do no harm: at most 64 KiB of each is read; what is not a regular file is never opened, and so never
    blocks; links out of the workspace are not followed while it is confined.
    """

    def __init__(self, workspace: Path, *, confined: bool = True) -> None:
        """Read nothing yet.

        Args:
          workspace: The folder; it may be missing, now or later.
          confined: Do not follow links that lead out of it. A repository from elsewhere could otherwise have any file
            of this machine sent to the model.
        """
        self._workspace = os.fspath(workspace)
        self._confined = confined
        self._one_thread = trio.CapacityLimiter(1)  # slow tools elsewhere do not hold up a prompt
        self._looking = False
        self._next: _Round | None = None  # of those who came during a look
        self._texts = WorkspaceTexts()
        self._files: dict[str, _CachedFile[str]] = {}
        self._skills: dict[str, _CachedFile[Skill]] = {}
        self._history: dict[str, _CachedFile[tuple[HistoryEntry, ...]]] = {}

    async def read(self) -> WorkspaceTexts:
        """Return what the files say now: any change made before the call is seen.

        While nothing has changed this costs one `stat` per file, in a thread, and returns the same object. Calls that
        come while another is at work share the next look. Never fails; cancellation waits for a look that has begun.
        """
        if self._looking:  # it may have passed a file that changed since
            share = self._next = self._next or _Round()
            await share.waiting.park()
            if share.texts is not None:
                return share.texts
            # Woken without an answer: this call looks for all who share the round.
        else:
            self._looking = True
            share = _Round()
        if share is self._next:
            self._next = None
        try:
            share.texts = await trio.to_thread.run_sync(self._look, limiter=self._one_thread)
            return share.texts
        finally:
            self._pass_on(share)

    def _pass_on(self, ended: _Round) -> None:
        """Give those who share a round its answer. Then one of the next looks, or another of these if there is no answer."""
        if ended.texts is not None:
            ended.waiting.unpark_all()
        following = ended if ended.waiting or self._next is None else self._next
        self._looking = bool(following.waiting)
        following.waiting.unpark()

    def _look(self) -> WorkspaceTexts:
        skills, left_out = self._look_at_skills()
        texts = WorkspaceTexts(
            agents=self._look_at_text("AGENTS.md"),
            soul=self._look_at_text("SOUL.md"),
            user=self._look_at_text("USER.md"),
            memory=self._look_at_text("memory/MEMORY.md"),
            skills=skills,
            skills_left_out=left_out,
            history=self._look_at_history(),
        )
        if texts != self._texts:
            self._texts = texts
        return self._texts

    def _look_at_text(self, name: str) -> str:
        def read(content: bytes, size: int) -> str:
            text = _decoded(content).strip()
            if size > len(content):
                shown = f"the first {len(content):,} of {size:,} bytes"
                text += f"\n[{name} is cut here: {shown} are shown; read the file for the rest]"
            return text

        try:
            cached = self._cached(self._files, name, self._path(name), _TEXT_BYTES, read)
        except _Unread as unread:
            self._files.pop(name, None)
            return f"[{name} was not read: {unread}]"
        return cached or ""

    def _look_at_history(self) -> tuple[HistoryEntry, ...]:
        name = "memory/history.jsonl"

        def read(content: bytes, size: int) -> tuple[HistoryEntry, ...]:
            # Cut anywhere, a line's rest is no entry.
            return entries_in(content if size <= len(content) else content.partition(b"\n")[2])

        try:
            cached = self._cached(
                self._history, name, self._path(name), RECENT_BYTES, read, from_end=True
            )
        except _Unread:
            return ()  # the agent's tools will tell why, when they look there
        return cached or ()

    def _look_at_skills(self) -> tuple[tuple[Skill, ...], int]:
        found: list[Skill] = []
        left_out = 0
        seen: set[str] = set()
        for folder in self._skill_folders():
            path = self._path(f"skills/{folder}/SKILL.md")

            def read(content: bytes, _size: int, folder: str = folder) -> Skill:
                return skill_from_text(_decoded(content), folder=folder)

            try:
                skill = self._cached(self._skills, folder, path, _SKILL_BYTES, read)
            except _Unread:
                continue  # nothing to tell the model: it could not read the skill, either
            if skill is None:
                continue
            seen.add(folder)
            if len(found) < _MAX_SKILLS:
                found.append(skill)
            else:
                left_out += 1
        for gone in self._skills.keys() - seen:
            del self._skills[gone]
        return tuple(found), left_out

    def _skill_folders(self) -> list[str]:
        try:
            with os.scandir(self._path("skills")) as entries:
                names = [entry.name for entry in islice(entries, _MAX_SKILL_FOLDERS)]
        except (OSError, ValueError):
            return []
        # The order on disk would change the prompt without reason; a name that is no text could not be sent.
        return sorted(name for name in names if name == without_surrogates(name))

    def _path(self, name: str) -> str:
        return f"{self._workspace}/{name}"  # Windows takes it, too

    def _cached(
        self,
        cache: dict[str, _CachedFile[T]],
        name: str,
        path: str,
        limit: int,
        read: Callable[[bytes, int], T],
        *,
        from_end: bool = False,
    ) -> T | None:
        """Return what `read` makes of the file, from the cache if the file is unchanged; None if it is missing."""
        fingerprint = _fingerprint(path)
        if fingerprint is None:
            cache.pop(name, None)
            return None
        known = cache.get(name)
        if known is not None and known.settled and known.fingerprint == fingerprint:
            return known.value
        settled = fingerprint.changed_ns < time.time_ns() - _TICK_NS
        content, size = self._opened(path, limit, from_end=from_end)
        value = read(content, size)
        cache[name] = _CachedFile(fingerprint, settled, value)
        return value

    def _opened(self, path: str, limit: int, *, from_end: bool) -> tuple[bytes, int]:
        """Return the first or the last `limit` bytes of a file, and its size."""
        try:
            # Confined, the real path is what is opened: after the look at it, a link could be turned elsewhere.
            real = self._inside(path) if self._confined else path
            with open_regular(real, follow_link=not self._confined) as file:
                size = os.fstat(file.fileno()).st_size
                if from_end and size > limit:
                    file.seek(size - limit)
                return read_up_to(file, limit), size
        except OSError as error:
            raise _Unread(error.strerror or "it cannot be opened") from error

    def _inside(self, path: str) -> str:
        real, root = os.path.realpath(path), os.path.realpath(self._workspace)
        try:
            if os.path.commonpath([root, real]) == root:
                return real
        except ValueError:  # not on the same drive
            pass
        raise _Unread("it is a link out of the workspace")


class _Unread(Exception):
    """A file is there but was not read; the text says why."""


class _Round:
    """One look at the files, and those who wait for it."""

    __slots__ = ("texts", "waiting")

    def __init__(self) -> None:
        self.waiting = trio.lowlevel.ParkingLot()
        self.texts: WorkspaceTexts | None = None


class _Fingerprint(Struct, frozen=True, gc=False):
    """Equal as long as a file is the same file with the same content."""

    device: int
    inode: int
    size: int
    changed_ns: int


class _CachedFile(Struct, Generic[T]):
    """`settled`: old enough for its times to tell of the next change."""

    fingerprint: _Fingerprint
    settled: bool
    value: T


def _fingerprint(path: str) -> _Fingerprint | None:
    """Tell a file from what it was before; None if there is none."""
    try:
        status = file_status(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _Unread(error.strerror or "it cannot be looked at") from error
    except ValueError:  # no path can have a NUL
        return None
    changed_ns = max(status.st_mtime_ns, status.st_ctime_ns)
    return _Fingerprint(status.st_dev, status.st_ino, status.st_size, changed_ns)


def _decoded(content: bytes) -> str:
    """Decode UTF-8 with or without BOM, and show what is not UTF-8 as U+FFFD; NUL characters are left out."""
    return content.decode("utf-8-sig", "replace").replace("\0", "")
