"""What is installed: one version, both typed packages, the command; and a README that is true."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder

import nanobot

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The `[project]` table of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return table


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that a user would install, built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    return zipfile.ZipFile(next(WheelBuilder(str(ROOT)).build(directory=str(folder))))


def test_the_version_lives_in_one_place(project: dict[str, Any]) -> None:
    assert "version" in project["dynamic"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", nanobot.__version__)


def test_the_installed_distribution_has_the_version_of_the_package() -> None:
    assert importlib.metadata.version("nanobot-ai") == nanobot.__version__


def test_the_changelog_tells_what_is_in_this_version() -> None:
    assert f"## [{nanobot.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_wheel_holds_both_packages_typed_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {"actors/py.typed", "nanobot/py.typed", "nanobot/__init__.py"} <= names
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"actors", "nanobot", f"nanobot_ai-{nanobot.__version__}.dist-info"}


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    folder = f"nanobot_ai-{nanobot.__version__}.dist-info"
    metadata = importlib.metadata.PathDistribution(zipfile.Path(wheel, f"{folder}/")).metadata
    assert metadata["Name"] == "nanobot-ai"
    assert metadata["Version"] == nanobot.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()


def test_every_ability_has_its_extra(project: dict[str, Any]) -> None:
    abilities = {"documents", "local", "mcp", "otel", "postgres", "server", "tokens", "web"}
    assert abilities | {"all", "dev"} <= set(project["optional-dependencies"])


def test_the_extra_all_names_every_ability_that_needs_no_compiler(project: dict[str, Any]) -> None:
    extras: dict[str, list[str]] = project["optional-dependencies"]
    (everything,) = extras["all"]
    named = set(re.findall(r"[a-z]+", everything.partition("[")[2]))
    assert named == set(extras) - {"all", "check", "dev", "local", "peers", "test"}


def test_the_command_nanobot_starts_the_command_line() -> None:
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="nanobot")
    assert command.value == "nanobot.cli:main"
    assert callable(command.load())


def test_the_commands_that_the_readme_gives_are_in_the_makefile() -> None:
    commands = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / "README.md").read_text("utf-8")))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {"demo", "test"} <= commands <= targets
