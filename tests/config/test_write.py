"""Writing a configuration: nothing is lost, nobody else can read it, and a kill at any moment leaves it whole."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.config import changed, config_from_tree, load_config, read_tree, write_config
from nanobot.errors import ConfigError
from tests.special_files import harmless_special_file, make_special

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NAMES = TEXT.filter(bool)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.just("${KEY}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
UNKNOWN = st.dictionaries(NAMES.map(lambda name: f"!{name}"), ANYTHING, max_size=3)
VALID = st.fixed_dictionaries(
    {},
    optional={
        "agents": st.fixed_dictionaries(
            {},
            optional={
                "defaults": UNKNOWN.map(
                    lambda unknown: {**unknown, "model": "x", "max_tool_iterations": 3}
                )
            },
        ),
        "providers": st.dictionaries(
            st.sampled_from(["openai", "my own", "a.b"]),
            st.fixed_dictionaries(
                {},
                optional={
                    "apiKey": TEXT | st.just("${KEY}"),
                    "extra_body": st.dictionaries(NAMES, ANYTHING, max_size=3),
                    "futureKey": ANYTHING,
                },
            ),
        ),
        "!later": ANYTHING,
        "channels": UNKNOWN,
    },
)


@given(VALID)
def test_what_was_read_and_written_reads_the_same(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("config")
    env = {"KEY": "from the environment"}
    first = config_from_tree(tree, path=None, env=env)
    path = folder / "config.json"
    write_config(first.tree, path)
    second = load_config(path, env=env)
    assert second.tree == first.tree
    assert second.unknown_keys == first.unknown_keys
    for name in ("agents", "providers", "channels"):
        assert getattr(second, name) == getattr(first, name)
    assert b"from the environment" not in path.read_bytes()
    before = path.read_bytes()
    write_config(second.tree, path)
    assert path.read_bytes() == before


def test_the_file_is_private_indented_and_in_camel_case(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "config.json"
    path.parent.parent.mkdir()
    write_config({"agents": {"defaults": {"max_tokens": 5, "bot_icon": "🐈"}}, "zz": "${A}"}, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text("utf-8") == textwrap.dedent(
        """\
        {
          "agents": {
            "defaults": {
              "maxTokens": 5,
              "bot_icon": "🐈"
            }
          },
          "zz": "${A}"
        }
        """
    )
    assert [entry.name for entry in path.parent.iterdir()] == ["config.json"]


def test_a_file_that_others_could_read_becomes_private(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{}")
    path.chmod(0o644)
    write_config({}, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    real = tmp_path / "dotfiles" / "nanobot.json"
    real.write_text("{}")
    link = tmp_path / "config.json"
    link.symlink_to(real)
    write_config({"x": 1}, link)
    assert link.is_symlink()
    assert json.loads(real.read_text()) == {"x": 1}


@pytest.mark.parametrize("value", [float("nan"), object(), b"bytes", {1, 2}, "\ud800"])
def test_what_json_cannot_hold_is_refused_and_the_old_file_stays(
    tmp_path: Path, value: object
) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"old": 1}')
    with pytest.raises(ConfigError, match="not JSON") as caught:
        write_config({"secret": value}, path)
    assert caught.value.__context__ is None
    assert path.read_text() == '{"old": 1}'
    assert len(list(tmp_path.iterdir())) == 1


def test_a_tree_that_refers_to_itself_is_refused(tmp_path: Path) -> None:
    tree: dict[str, Any] = {"x": {}}
    tree["x"]["again"] = tree
    with pytest.raises(ConfigError, match="not JSON"):
        write_config(tree, tmp_path / "config.json")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ConfigError, match=r"Cannot write .*config\.json: "):
        write_config({}, blocked / "config.json")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ConfigError, match=r"Cannot write .*config\.json: "):
        write_config({}, tmp_path / "config.json")
    assert list(tmp_path.glob(".config.json*")) == []


@harmless_special_file
def test_what_is_no_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "config.json"
    make_special(path, kind)
    before = path.stat().st_mode
    with pytest.raises(ConfigError, match=rf"Cannot write .*config\.json: not a .* but {kind}"):
        write_config({}, path)
    assert path.stat().st_mode == before
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_changing_one_value_keeps_all_others(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"agents": {"defaults": {"max_tokens": 5, "odd": "${X}"}}, "more": [1]}')
    before = read_tree(path)
    after = changed(before, ("agents", "defaults", "maxTokens"), 9)
    after = changed(after, ("providers", "a.b", "apiKey"), "${KEY}")
    write_config(after, path)
    assert json.loads(path.read_text()) == {
        "agents": {"defaults": {"maxTokens": 9, "odd": "${X}"}},
        "more": [1],
        "providers": {"a.b": {"apiKey": "${KEY}"}},
    }
    assert before["agents"]["defaults"]["maxTokens"] == 5
    with pytest.raises(ConfigError, match="more is not an object"):
        changed(before, ("more", "x"), 1)


def test_what_killed_writers_left_is_cleared_away_and_what_others_write_is_not(
    tmp_path: Path,
) -> None:
    abandoned, current = tmp_path / ".config.json.a.tmp", tmp_path / ".config.json.b.tmp"
    for leftover in (abandoned, current):
        leftover.write_text("{}")
    long_ago = time.time() - 3600
    os.utime(abandoned, (long_ago, long_ago))
    write_config({}, tmp_path / "config.json")
    assert not abandoned.exists()
    assert current.exists()


def test_of_many_writers_at_once_one_wins_whole(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    trees = [{"writer": number, "padding": "x" * 10_000} for number in range(8)]
    threads = [threading.Thread(target=write_config, args=(tree, path)) for tree in trees]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert json.loads(path.read_text()) in trees
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]


# Ends the process without any cleanup before the n-th line that the writer would run.
KILLED_WRITER = """
import os, sys
from pathlib import Path
from nanobot.config import _write, write_config

lines_left = int(sys.argv[2])

def trace(frame, event, argument):
    global lines_left
    if frame.f_code.co_filename != _write.__file__:
        return None
    if event == "line":
        lines_left -= 1
        if lines_left < 0:
            os._exit(9)
    return trace

sys.settrace(trace)
write_config({"content": "new", "padding": "x" * 100_000}, Path(sys.argv[1]))
"""


def test_a_kill_before_any_line_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    seen: list[tuple[str, int]] = []
    lines = 0
    while not seen or seen[-1][1] == 9:
        assert lines < 200
        write_config({"content": "old"}, path)
        ended = subprocess.run(
            [sys.executable, "-c", KILLED_WRITER, str(path), str(lines)], check=False
        )
        seen.append((json.loads(path.read_bytes())["content"], ended.returncode))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for leftover in tmp_path.glob(".config.json.*"):
            assert stat.S_IMODE(leftover.stat().st_mode) == 0o600
            leftover.unlink()
        lines += 1
    contents = [content for content, _ in seen]
    assert seen[-1] == ("new", 0)
    assert contents == sorted(contents, reverse=True)  # "old" until one line, "new" from there
    assert contents.count("old") > 15
