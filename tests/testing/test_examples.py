"""Every example in a docstring runs as it stands."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import textwrap

import pytest

import nanobot.testing

_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)

EXAMPLES = [
    pytest.param(textwrap.dedent(block), id=f"{name}-{number}")
    for name in nanobot.testing.__all__
    for number, block in enumerate(
        _BLOCK.findall(inspect.getdoc(getattr(nanobot.testing, name)) or ""), start=1
    )
]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 6


@pytest.mark.parametrize("source", EXAMPLES)
def test_an_example_runs_as_it_stands(source: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(source, "example", "exec"), {"__name__": "__main__"})


def test_every_public_name_exists_and_is_explained() -> None:
    assert nanobot.testing.__all__ == sorted(nanobot.testing.__all__, key=_as_ruff_sorts)
    for name in nanobot.testing.__all__:
        thing = getattr(nanobot.testing, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name


def _as_ruff_sorts(name: str) -> tuple[int, str]:
    """Constants first, then classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)
