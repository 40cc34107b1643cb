"""The layers: an import may only point down. Reads every module and names each arrow that does not.

The picture these tables hold is drawn in docs/design.md.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

DOOR = "nanobot"  # `nanobot/__init__.py`: what users import, and no layer below a surface may

LAYERS: tuple[frozenset[str], ...] = (  # from the ground up
    frozenset({"actors"}),
    frozenset(
        {
            "_frames",
            "_http_connections",
            "_regular_file",
            "_version",
            "errors",
            "messages",
        }
    ),
    frozenset({"config", "telemetry"}),
    frozenset({"memory", "providers", "sessions", "tools"}),
    frozenset({"context"}),
    frozenset({"agent"}),
    frozenset({"runtime"}),
    frozenset({"sdk", "testing"}),
    frozenset({DOOR}),
    frozenset({"cli", "gateway", "server"}),
    frozenset({"__main__", "_pytest_plugin"}),
)

# Arrows between neighbors of one layer. Each points one way, so none of them can close a circle.
BESIDE: dict[tuple[str, str], frozenset[str] | None] = {  # None: any name
    ("_frames", "errors"): None,  # cuts frames off our own errors, not off bugs
    ("messages", "errors"): None,  # a history that cannot be is the caller's mistake
    ("memory", "providers"): frozenset(
        {"DeltaStream", "ModelRequest", "Provider"}
    ),  # Protocol only
    ("cli", "server"): None,  # commands start the other surfaces
    ("cli", "gateway"): None,
}

# Arrows that point down and are refused all the same.
REFUSED: dict[tuple[str, str], str] = {
    (importer, "testing"): "fakes are for tests and the demo"
    for importer in (DOOR, "gateway", "server", "__main__")
}

# What these parts may import besides the standard library and the layers between them and `actors`;
# the others may import any dependency.
OUTSIDE: dict[str, frozenset[str]] = {
    "actors": frozenset({"outcome", "trio"}),
    "_version": frozenset(),
    "_frames": frozenset(),
    "_regular_file": frozenset(),
    "_http_connections": frozenset({"hypercorn", "starlette", "trio"}),
    "errors": frozenset(),
    "messages": frozenset({"msgspec"}),
}


def test_every_import_points_down() -> None:
    modules = [*ROOT.glob("actors/**/*.py"), *ROOT.glob("nanobot/**/*.py")]
    assert modules, "no module was read"
    problems = [
        problem
        for path in sorted(modules)
        for problem in problems_of(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))
    ]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("actors/_mailbox.py", "import heapq\nimport trio\nfrom ._errors import Closed"),
        ("nanobot/messages/_history.py", "from nanobot.errors import UsageError"),
        ("nanobot/providers/_sse.py", "import msgspec\nfrom ..messages import Delta"),
        ("nanobot/memory/_summarize.py", "from nanobot.providers import Provider"),
        ("nanobot/agent/_turn.py", "from nanobot import errors\nfrom nanobot.tools import Tool"),
        ("nanobot/runtime/_runtime.py", "from actors import Directory\nimport nanobot.agent"),
        ("nanobot/testing/_scripted.py", "from nanobot.providers import Provider"),
        ("nanobot/cli/_demo.py", "from nanobot import Nanobot\nimport nanobot.testing"),
        ("nanobot/__init__.py", "from .sdk import Nanobot"),
        ("nanobot/__main__.py", "from nanobot.cli import main"),
        ("nanobot/sdk/_bot.py", "if True:\n    from nanobot.runtime import Runtime"),
    ],
)
def test_arrows_that_point_down_pass(path: str, source: str) -> None:
    assert problems_of(path, source) == []


@pytest.mark.parametrize(
    ("path", "source", "arrow"),
    [
        ("actors/_home.py", "import nanobot.errors", "actors -> errors points up"),
        ("actors/_home.py", "import sniffio", "actors -> sniffio"),
        ("nanobot/errors.py", "from nanobot.messages import Usage", "errors -> messages"),
        ("nanobot/messages/_usage.py", "import actors", "messages -> actors"),
        ("nanobot/messages/_usage.py", "import httpx", "messages -> httpx"),
        ("nanobot/config/_load.py", "from ..agent import Limits", "config -> agent points up"),
        ("nanobot/tools/_execute.py", "from nanobot.providers import Provider", "sideways"),
        ("nanobot/memory/_summarize.py", "from nanobot.providers import Retrying", "sideways"),
        ("nanobot/memory/_summarize.py", "import nanobot.providers", "sideways"),
        ("nanobot/memory/_summarize.py", "from nanobot.providers import *", "sideways"),
        ("nanobot/agent/_turn.py", "from nanobot import Nanobot", "agent -> nanobot points up"),
        ("nanobot/agent/_turn.py", "from .. import runtime", "agent -> runtime points up"),
        ("nanobot/agent/__init__.py", "from ..runtime import R", "agent -> runtime points up"),
        ("nanobot/sdk/_bot.py", "import nanobot.testing", "sdk -> testing points sideways"),
        ("nanobot/server/_app.py", "import nanobot.testing", "server -> testing is refused"),
        ("nanobot/testing/_bot.py", "from nanobot.sdk import B", "testing -> sdk points sideways"),
        ("nanobot/server/_app.py", "from nanobot.gateway import G", "sideways"),
        ("nanobot/tools/_a.py", "if TYPE_CHECKING:\n    import nanobot.sdk", "tools -> sdk"),
        ("nanobot/tools/_a.py", "try:\n    import nanobot.sdk\nexcept E: pass", "tools -> sdk"),
        ("nanobot/tools/_a.py", "def f():\n    import nanobot.sdk  # deferred", "tools -> sdk"),
        ("nanobot/plumbing/_a.py", "import nanobot.errors", "plumbing has no layer"),
        ("nanobot/cli/_a.py", "import nanobot.plumbing", "plumbing has no layer"),
    ],
)
def test_arrows_that_do_not_point_down_are_named(path: str, source: str, arrow: str) -> None:
    problems = problems_of(path, source)
    assert len(problems) == 1
    assert arrow in problems[0]
    assert problems[0].startswith(f"{path}:")


@pytest.mark.parametrize(
    "body",
    [
        "import lxml  # deferred: 80 ms that most runs do not need",
        "# deferred: 80 ms that most runs do not need\n    import lxml",
        "# deferred, both are slow\n    import lxml\n    from lxml import (\n        html,\n    )",
    ],
)
def test_an_import_inside_a_function_passes_with_its_reason(body: str) -> None:
    assert problems_of("nanobot/tools/_web.py", f"async def fetch():\n    {body}\n") == []


@pytest.mark.parametrize(
    "body",
    [
        "import lxml",
        "import lxml  # slow",
        "'deferred'\n    import lxml",
        "# deferred, both are slow\n    import lxml\n    lxml.x()\n    import httpx",
    ],
)
def test_an_import_inside_a_function_needs_a_comment_that_says_deferred(body: str) -> None:
    (problem,) = problems_of("nanobot/tools/_web.py", f"class A:\n  def fetch():\n    {body}\n")
    assert "deferred" in problem


def problems_of(path: str, source: str) -> list[str]:
    """Every import of one module that breaks the rule, as `path:line: what is wrong`."""
    importer = _part(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    if _layer(importer) is None:
        return [f"{path}:1: {importer} has no layer: place it in tests/test_layers.py"]
    problems = []
    comments = _comments(source)
    excused = -1  # last line of the newest import in a function that gave its reason
    for statement, in_function in _imports(ast.parse(source, path)):
        first, last = statement.lineno, statement.end_lineno or statement.lineno
        for module, names in _targets(statement, folders=path.split("/")[:-1]):
            if problem := _wrong_arrow(importer, module, names):
                problems.append(f"{path}:{first}: {problem}")
        if in_function:
            said = any("deferred" in comments.get(line, "") for line in range(first - 1, last + 1))
            if said or first == excused + 1:
                excused = last
            else:
                problems.append(
                    f"{path}:{first}: an import inside a function needs a comment, there or on the "
                    'line above, that says why it is "deferred"'
                )
    return problems


def _wrong_arrow(importer: str, module: str, names: frozenset[str]) -> str | None:
    imported = _part(module)
    if imported == importer:
        return None
    arrow = f"{importer} -> {imported}"
    here, there = _layer(importer), _layer(imported)
    assert here is not None  # checked before any import was read
    if there is None and module.startswith("nanobot."):
        return f"{imported} has no layer: place it in tests/test_layers.py"
    if there is not None and there > here:
        return f"{arrow} points up"
    if there is None or imported == "actors":
        allowed = OUTSIDE.get(importer)
        if allowed is None or imported in allowed or imported in sys.stdlib_module_names:
            return None
        return f"{arrow} is refused: {importer} imports {sorted(allowed)} and the standard library"
    if (importer, imported) in REFUSED:
        return f"{arrow} is refused: {REFUSED[importer, imported]}"
    if there == here:
        excepted = BESIDE.get((importer, imported), frozenset())
        if excepted is not None and not (names and names <= excepted):
            return f"{arrow} points sideways"
    return None


def _part(module: str) -> str:
    """`nanobot.agent._turn` -> `agent`; `actors._home` -> `actors`; `httpx._client` -> `httpx`."""
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] if first == "nanobot" and rest else first


def _layer(part: str) -> int | None:
    return next((height for height, parts in enumerate(LAYERS) if part in parts), None)


def _imports(
    node: ast.AST, in_function: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Every import statement in the order of the file, and whether a function holds it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, in_function
        else:
            enters = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            yield from _imports(child, in_function or enters)


def _targets(
    statement: ast.Import | ast.ImportFrom, folders: list[str]
) -> Iterator[tuple[str, frozenset[str]]]:
    """The absolute modules that a statement imports, each with the names it takes from it."""
    names = [alias.name for alias in statement.names]
    if isinstance(statement, ast.Import):
        for name in names:
            yield name, frozenset()
        return
    above = folders[: len(folders) - statement.level + 1] if statement.level else []
    module = ".".join([*above, *filter(None, [statement.module])])
    if module == DOOR:  # `from nanobot import errors` reaches through the door to a layer
        layers = [name for name in names if _layer(name) is not None]
        names = [name for name in names if name not in layers]
        for name in layers:
            yield f"{DOOR}.{name}", frozenset()
    if names:
        yield module, frozenset(names)


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
