"""The notebook's cells, run one after the other as a kernel does: in one loop, with `await` in them."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from .conftest import EXAMPLES

NOTEBOOK = json.loads((EXAMPLES / "notebook.ipynb").read_text())
CELLS = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_the_cells_run_in_order(example_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def kernel() -> None:
        names: dict[str, Any] = {}
        for cell in CELLS:
            code = compile(cell, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = eval(code, names)
            if inspect.isawaitable(running):
                await running
        assert (names["typed"].output.name, names["typed"].output.age) == ("Ada", 36)

    asyncio.run(asyncio.wait_for(kernel(), 30))
    printed = capsys.readouterr().out
    assert "Your name is Alice." in printed
    assert "Once upon a time." in printed
    assert "4 turns," in printed


def test_it_was_saved_without_outputs() -> None:
    assert [cell.get("outputs", []) for cell in NOTEBOOK["cells"] if cell.get("outputs")] == []


@pytest.mark.slow
def test_its_types_are_right(tmp_path: Path) -> None:
    # deferred: `make test` works without a type checker
    mypy = pytest.importorskip("mypy.api", reason="mypy comes with `make check`")
    body = "\n".join(CELLS)
    program = tmp_path / "notebook.py"
    program.write_text("async def main() -> None:\n" + textwrap.indent(body, "    ") + "\n")
    printed, _, code = mypy.run(["--strict", "--cache-dir", str(tmp_path / "cache"), str(program)])
    assert code == 0, printed
