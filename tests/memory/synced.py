"""What was synced to the disk, by size, in order."""

from __future__ import annotations

import os

import pytest

__all__ = ["synced_sizes"]


def synced_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the files that are synced from now on, as they are then. A patch: no power cut can be had in a test."""
    sizes: list[int] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        sync(descriptor)
        sizes.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", noted)
    return sizes
