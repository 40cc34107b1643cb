"""Files that are not what they should be: each gets a clear error that names the file and the way out."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.config import Config, InvalidConfig, config_from_tree, load_config
from nanobot.config._parse import MAX_CONFIG_BYTES, parse_object
from nanobot.errors import ConfigError


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(InvalidConfig) as caught:
        load_config(path, env={})
    assert str(path) in str(caught.value)
    assert caught.value.path == path
    # Neither the text of the file nor the decoder's error, which holds it, travels along.
    assert caught.value.__context__ is None
    return "; ".join(map(str, caught.value.issues))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def test_broken_json_is_found_by_line_and_column(path: Path) -> None:
    assert "line 3, column 3" in refusal(path, b'{\n  "api": {},\n  oops\n}')
    assert "line 1, column" in refusal(path, b'{"api": {')
    assert "line" in refusal(path, b"{} {}")


@pytest.mark.parametrize(
    ("content", "explanation"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"[]", "expected a JSON object"),
        (b'"text"', "expected a JSON object"),
        (b"null", "expected a JSON object"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "UTF-16"),
        ("{}".encode("utf-16-be"), "line 1"),
        (b'{\n"a": "\xff"}', "not UTF-8, see line 2"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": [-Infinity]}', "-Infinity is not JSON"),
        (b'{"a": {"b": 1e999}}', "a.b: the number is too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "thousands of digits"),
        (b'{"a": "\\ud800"}', "a: holds half of a surrogate pair"),
        (b'{"a": ["x", "\\u0000"]}', "a.1: holds a NUL character"),
        (b'{"\\u0000": 1}', "holds a NUL character"),
    ],
)
def test_what_is_no_configuration_is_explained(
    path: Path, content: bytes, explanation: str
) -> None:
    assert explanation in refusal(path, content)


def test_repeated_keys_are_found_with_their_paths(path: Path) -> None:
    found = refusal(
        path, b'{"api": {"port": 1, "port": 2}, "x": [{"a": 1, "a": 1}], "api": {"host": "h"}}'
    )
    for key in ("api: ", "api.port: ", "x.0.a: "):
        assert f"{key}stands twice; keep one" in found


@pytest.mark.parametrize("levels", [70, 5_000, 100_000])
@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_is_refused_not_followed(
    path: Path, levels: int, opened: bytes, closed: bytes
) -> None:
    inner = b"1" if opened != b"[" else b""
    content = b'{"a":' + opened * levels + inner + closed * levels + b"}"
    assert "nested deeper than 64 levels" in refusal(path, content)


def test_a_file_of_a_hundred_megabytes_is_not_read(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    with pytest.raises(InvalidConfig, match=r"larger than 4 MiB"):
        load_config(path)


def test_the_largest_allowed_file_is_read(path: Path) -> None:
    frame = b'{"x": ""}'
    path.write_bytes(b'{"x": "' + b"y" * (MAX_CONFIG_BYTES - len(frame)) + b'"}')
    assert load_config(path, env={}).unknown_keys == ("x",)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="is a folder"):
        load_config(tmp_path)
    with pytest.raises(InvalidConfig, match="is a folder"):
        load_config("")


def test_a_file_below_a_file_cannot_be_read(path: Path) -> None:
    path.write_text("{}")
    with pytest.raises(InvalidConfig, match="cannot be read"):
        load_config(path / "config.json")


def test_a_name_with_a_nul_or_without_end_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot be read"):
        load_config(tmp_path / "x\0y")
    with pytest.raises(InvalidConfig, match="cannot be read"):
        load_config(tmp_path / ("x" * 300))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_pipe_is_refused_instead_of_waited_for(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(InvalidConfig, match="not a regular file"):
        load_config(path)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_says_so(path: Path) -> None:
    path.write_text("{}")
    path.chmod(0)
    with pytest.raises(InvalidConfig, match="cannot be read"):
        load_config(path)


def test_links_in_a_circle_cannot_be_read(path: Path) -> None:
    path.symlink_to(path)
    with pytest.raises(InvalidConfig, match="cannot be read"):
        load_config(path)


@given(st.binary(max_size=200))
def test_any_bytes_either_load_or_are_refused(content: bytes) -> None:
    try:
        tree = parse_object(content, path=Path("config.json"))
    except InvalidConfig as error:
        assert error.issues  # noqa: PT017  # either way out is fine
    else:
        assert isinstance(tree, dict)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
    | st.sampled_from(["${HOME}", "${NOT_SET}", "auto", "true", "7", "null", "http://h"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                re.findall(
                    r"\w+",
                    "agents defaults model maxTokens max_tokens providers openai apiKey api_base tools "
                    "mcpServers files args env fallbackModels modelPresets fast channels x exec dream "
                    "restrictToWorkspace myEnabled sessionTtlMinutes timezone api port headers",
                )
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
TREES = st.dictionaries(
    st.sampled_from(["agents", "providers", "tools", "modelPresets", "api", "channels", "x"]),
    JSON_VALUES,
)


@given(TREES)
def test_any_object_either_loads_or_is_explained_key_by_key(tree: dict[str, Any]) -> None:
    before = json.dumps(tree)
    try:
        config = config_from_tree(tree, path=None, env={"HOME": "/home/me"})
    except InvalidConfig as error:
        assert error.issues  # noqa: PT017  # either way out is fine
        assert all(issue.path for issue in error.issues), error  # noqa: PT017
    else:
        assert isinstance(config, Config)
    assert json.dumps(tree) == before


def test_an_error_is_one_that_callers_of_the_sdk_expect(path: Path) -> None:
    path.write_text("{")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert isinstance(caught.value, ValueError)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has this file")
def test_a_file_that_fails_while_it_is_read_says_so() -> None:
    with pytest.raises(InvalidConfig, match="cannot be read: Input/output error"):
        load_config("/proc/self/mem")
