"""The lines that benchmarks print, read back: what tables, the chart and the page on performance are made from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "Line", "Results"]

FOLDER = Path(__file__).parent / "results"
"""What `make bench-full` wrote: a file of lines for each benchmark."""

Line = dict[str, Any]
"""One figure, as `report` prints it."""


class Results:
    """Figures of one or several benchmarks."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.lines = list(lines)

    @classmethod
    def of_folder(cls, folder: Path = FOLDER) -> Results:
        """All that is in the folder's files."""
        paths = sorted(folder.glob("*.jsonl"))
        return cls(
            json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines()
        )

    def figure(self, name: str, subject: str, field: str = "median", **facts: Any) -> float:
        """One figure of the line of that benchmark and subject that has these facts.

        Raises:
          LookupError: Nobody measured it.
        """
        wanted = {"name": name, "subject": subject, **facts}
        for line in self.lines:
            if field in line and wanted.items() <= line.items():
                return float(line[field])
        raise LookupError(f"{name}: {subject} {facts}")
