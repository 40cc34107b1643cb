"""A line of shell is read as the shell reads it."""

from __future__ import annotations

import shutil
import string
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.tools.builtin._shell_syntax import TooIntricate, commands_of


def words(text: str) -> list[list[str]]:
    return [command.words for command in commands_of(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ls -la /tmp", [["ls", "-la", "/tmp"]]),
        ("a; b && c || d | e & f", [["a"], ["b"], ["c"], ["d"], ["e"], ["f"]]),
        ("a\nb\\\n c", [["a"], ["b", "c"]]),
        ("r'm' \"-r\"f \\x", [["rm", "-rf", "x"]]),
        ('"a \\" \\$ \\n b"', [['a " $ \\n b']]),
        ("$'r\\x6d' $'\\162m' $'a\\tb'", [["rm", "rm", "a\tb"]]),
        ("echo a#b # rm -r x\nc", [["echo", "a#b"], ["c"]]),
        ("echo $(a; b) c", [["a"], ["b"], ["echo", "$()", "c"]]),
        ("echo `a \\`b\\`` c", [["b"], ["a", "$()"], ["echo", "$()", "c"]]),
        ('echo "$(a "b c")"', [["a", "b c"], ["echo", "$()"]]),
        ("echo '$(a)'", [["echo", "$(a)"]]),
        ("echo ${x:-$(a)} b", [["a"], ["echo", "${x:-$(a)}", "b"]]),
        ("(a; (b)) && { c; }", [["a"], ["b"], ["{", "c"], ["}"]]),
        ("diff <(a) >(b)", [["a"], ["b"], ["diff", "<()", ">()"]]),
        ("$((1 << 2)) x\nrm y", [["1", "2"], ["$()", "x"], ["rm", "y"]]),
        ("a 2>&1 >out 3<in b", [["a", "b"]]),
        ("case x in a) b;; esac", [["case", "x", "in", "a"], ["b"], ["esac"]]),
        ("echo $( (a) ) b", [["a"], ["echo", "$()", "b"]]),
        ("", []),
        ("  # nothing", []),
        ("echo 'open", [["echo", "open"]]),
        ("echo $(open", [["open"], ["echo", "$()"]]),
    ],
)
def test_reads_words(text: str, expected: list[list[str]]) -> None:
    assert words(text) == expected


def test_what_a_command_reads_and_writes() -> None:
    first, second = commands_of("cat <<'END' >>out | sh 2>/dev/null\nrm $(x)\nEND\n")
    assert (first.words, first.writes_to, first.is_fed) == (["cat"], ["out"], "rm $(x)")
    assert (second.words, second.writes_to) == (["sh"], ["/dev/null"])
    assert second.piped_from is first
    assert first.source == "cat <<'END' >>out"
    (third,) = commands_of("sh <<<'rm x' &>log")
    assert (third.is_fed, third.writes_to) == ("rm x\n", ["log"])


def test_the_text_of_a_here_document_is_no_command_but_what_it_substitutes_is() -> None:
    assert words("cat <<-E\n\ta $(b)\n\tE\nc") == [["cat"], ["b"], ["c"]]
    assert words("cat <<E1 <<'E2'\n`b`\nE1\n`d`\nE2\nc") == [["cat"], ["b"], ["c"]]


def test_what_nobody_writes_is_refused() -> None:
    with pytest.raises(TooIntricate):
        commands_of("$(" * 40)
    with pytest.raises(TooIntricate):
        commands_of("a;" * 20, most=10)


TEXTS = st.text(
    st.sampled_from("ab -;&|()<>{}$`'\"\\\n#=1!" + string.ascii_letters[:4]), max_size=60
)


@given(TEXTS)
def test_every_text_is_read_to_its_end(text: str) -> None:
    try:
        commands_of(text)
    except TooIntricate:
        pass


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8),
        min_size=1,
        max_size=4,
    )
)
def test_quoted_words_are_those_that_the_shell_sees(given_words: list[str]) -> None:
    import shlex  # beside what is tested

    assert words("x " + " ".join(map(shlex.quote, given_words))) == [["x", *given_words]]


BASH = shutil.which("bash")
PLAIN = st.text(st.sampled_from("ab'\"\\ "), min_size=1, max_size=10)


@pytest.mark.skipif(BASH is None, reason="needs bash")
@given(PLAIN)
def test_bash_agrees_on_quotes(text: str) -> None:
    assert BASH is not None
    asked = subprocess.run(
        [BASH, "-c", f"printf '%s\\n' {text}"], capture_output=True, text=True, check=False
    )
    if asked.returncode == 0:  # else a quote is open
        ((_, _, *read),) = words(f"printf '%s\\n' {text}")
        assert "\n".join(read or [""]) + "\n" == asked.stdout
