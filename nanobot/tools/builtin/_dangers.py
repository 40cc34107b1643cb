"""What a command would destroy at a stroke, decided by its words.

This stops accidents: a model that cleans up too eagerly, a line that was copied from the wrong page. It is no boundary.
A script, another interpreter, text that is decoded first can do all of this and is not seen through; what must not
happen has to be made impossible, by the sandbox.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import Final

from ._shell_syntax import SimpleCommand, TooIntricate, commands_of

__all__ = ["danger_in"]

_MOST_JUDGED: Final = 5_000
"""Commands that are looked at, those inside `sh -c` counted too: without a bound, nesting multiplies them."""

_MOST_CHARS: Final = 500_000
"""Characters that are read for one text, those inside `sh -c` and `eval` again: 0.5 s of a thread."""

_MOST_NAMES: Final = 50
_MOST_ECHOED: Final = 4
_DEEPEST_NAMES: Final = 3
_LONGEST_WORD: Final = 1_000
"""What is looked up of variables and the like: more than anybody writes by accident."""

_WORDS_TRIED: Final = 50
"""Behind `sudo` and the like. Nobody gives it so many options."""

_SHELLS: Final = frozenset({"sh", "bash", "zsh", "dash", "ash", "ksh", "mksh", "fish"})

# Programs that run what stands behind them: their options that take a value, and how many words come before it.
_RUNNERS: Final[dict[str, tuple[str, int]]] = {
    "sudo": ("CDghpRrTtUu", 0),
    "doas": ("Cu", 0),
    "env": ("CuS", 0),
    "nice": ("n", 0),
    "ionice": ("cnpPu", 0),
    "nohup": ("", 0),
    "time": ("fo", 0),
    "timeout": ("ks", 1),
    "stdbuf": ("eio", 0),
    "setsid": ("", 0),
    "chrt": ("DPT", 1),
    "taskset": ("", 1),
    "exec": ("a", 0),
    "command": ("", 0),
    "builtin": ("", 0),
    "busybox": ("", 0),
    "toybox": ("", 0),
    "xargs": ("adEIiLlnPs", 0),
    "parallel": ("jnNILC", 0),
    "watch": ("nq", 0),
    "strace": ("abeEIoOpPsSuUX", 0),
    "unshare": ("GRSw", 0),
    "chroot": ("", 1),
    "flock": ("EwT", 1),
    "script": ("BcEIoOTm", 0),
    "su": ("cgGsTw", 1),
    "runuser": ("cgGsu", 1),
    "ssh": ("BbcDEeFIiJLlmOopQRSWw", 1),
    "caffeinate": ("tw", 0),
    "noglob": ("", 0),
    "-": ("", 0),
    "setpriv": ("", 0),
    "systemd-run": ("pEtuM", 0),
    "run0": ("u", 0),
    "pkexec": ("u", 0),
    "gosu": ("", 1),
    "su-exec": ("", 1),
    "nsenter": ("tGS", 0),
    "fakeroot": ("", 0),
    "proot": ("rbqwkmi", 0),
    "firejail": ("", 0),
    "bwrap": ("", 0),
    "dbus-run-session": ("", 0),
    "xvfb-run": ("enfpsw", 0),
    "valgrind": ("", 0),
    "ltrace": ("", 0),
    "catchsegv": ("", 0),
    "entr": ("", 0),
    "tmux": ("", 1),
    "screen": ("S", 0),
    "cmd": ("", 0),
    "cmd.exe": ("", 0),
    "powershell": ("", 0),
    "pwsh": ("c", 0),
}
_TAKE_TEXT: Final = frozenset(
    {
        *(
            "cmd",
            "cmd.exe",
            "env",
            "flock",
            "parallel",
            "powershell",
            "pwsh",
            "runuser",
            "screen",
            "script",
            "ssh",
        ),
        *("su", "tmux", "trap", "watch"),
    }
)
"""Those of them that also take a whole line of shell as one word."""

# Words before which a command begins.
_KEYWORDS: Final = frozenset(
    {"if", "then", "elif", "else", "while", "until", "do", "!", "{", "}", "coproc"}
)
_EXECUTES: Final = (
    frozenset({"-x", "-X", "--exec", "--exec-batch"}),  # fd
    frozenset({"-exec", "-execdir", "-ok", "-okdir"}),
)
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*\+?=")

_MAKES_FILE_SYSTEM: Final = re.compile(
    r"mkfs(\..*)?|newfs(_.*)?|mke2fs|mkswap|wipefs|blkdiscard|diskpart"
)
_SWITCHES_OFF: Final = frozenset({"shutdown", "reboot", "poweroff", "halt"})
_SWITCHING_OFF: Final = frozenset({"halt", "kexec", "poweroff", "reboot", "soft-reboot"})
_DISK: Final = re.compile(
    r"/dev/(?:[shv]d[a-z]|xvd[a-z]|nvme\d|mmcblk\d|mapper/|dm-\d|md\d|r?disk|loop\d|block/|k?mem$|port$)"
)
_SYSRQ: Final = "/proc/sysrq-trigger"
_SAYING: Final = frozenset({"echo", "printf"})
_NAME_USED: Final = re.compile(
    r"\$(?:([A-Za-z_]\w*)|\{!?([A-Za-z_]\w*)(?::?[-=+]([^{}]*)|[^{}]*)\})"
)
_BRACES: Final = re.compile(r"\{([^{},]*),[^{}]*\}")
_NO_DISK: Final = re.compile(r"/dev/(?:null|zero|full|tty\d*|std(?:out|err)|fd/|shm/|pts/)")
_FORK_BOMB: Final = re.compile(
    r"([^\s(){};|&]{1,64})\s{0,9}\(\s{0,9}\)\s{0,9}\{[^}]{0,200}?(?<![^\s{;|&])\1\s{0,9}[|&]\s{0,9}\1\s{0,9}&"
)

_RM: Final = "it deletes folders with all that is in them"
_MANY: Final = "it deletes every file that a search finds"
_FORMAT: Final = "it wipes a file system"
_WRITE: Final = "it writes to a disk past its file system"
_KILL: Final = "it ends every process that it may"
_OFF: Final = "it switches the machine off"
_BOMB: Final = "it is a fork bomb"
_INTRICATE: Final = "it is too intricate to be judged; put it into a script"


def danger_in(text: str) -> str:
    """Say what a line of shell would destroy; "" if nothing is seen."""
    if _FORK_BOMB.search(text):
        return _BOMB
    try:
        return _Judge().judge(text)
    except (TooIntricate, RecursionError):
        return _INTRICATE


class _Judge:
    """Looks at commands, and at those inside them, until one is dangerous or there are too many."""

    def __init__(self) -> None:
        self._left = _MOST_JUDGED
        self._chars_left = _MOST_CHARS
        self._said: dict[str, str] = {}
        self._echoed: list[str] = []

    def judge(self, text: str) -> str:
        self._chars_left -= len(text)
        if self._chars_left < 0:
            raise TooIntricate
        commands = commands_of(text, most=self._left)
        self._left -= len(commands)
        self._learn(commands)
        return next(filter(None, map(self._judged, commands)), "")

    def _judged(self, command: SimpleCommand) -> str:
        if any(_is_disk(target) for target in command.writes_to):
            return _WRITE
        if any(_plain(target) == _SYSRQ for target in command.writes_to):
            return _OFF
        for meaning in (command.words, *self._meanings(command.words)):
            words = _without_prefix(meaning)
            if words and (danger := self._danger(words, command)):
                return danger
        return ""

    def _meanings(self, words: Sequence[str]) -> Iterator[Sequence[str]]:
        """The words with what this very text says of its variables, aliases and braces, and of what it echoes, filled in."""
        if not (words and (words[0] in self._said or any(c in w for w in words for c in "${"))):
            return
        for echoed in self._echoed or [""]:
            filled = [self._said.get(words[0], words[0]), *words[1:]]
            for _ in range(_DEEPEST_NAMES):
                filled = [self._filled(word, echoed) for word in filled]
            yield [part for word in filled for part in _split(word)]

    def _filled(self, word: str, echoed: str) -> str:
        word = word.replace("$()", echoed)[:_LONGEST_WORD]
        return _NAME_USED.sub(
            lambda found: self._said.get(found[1] or found[2], found[3] or " "), word
        )[:_LONGEST_WORD]

    def _learn(self, commands: Sequence[SimpleCommand]) -> None:
        """Note what names are said to mean, and what is echoed: it may be run where it is put."""
        for command in commands:
            for word in command.words:
                name, equals, value = word.partition("=")
                if equals and name.isidentifier() and len(self._said) < _MOST_NAMES:
                    self._said[name] = value
            words = _without_prefix(command.words)
            if words and _name_of(words[0]) in _SAYING and len(self._echoed) < _MOST_ECHOED:
                self._echoed.append(" ".join(words[1:]))

    def _danger(self, words: Sequence[str], command: SimpleCommand) -> str:
        name = _name_of(words[0])
        if danger := _destruction(name, words) or _switches_off(name, words):
            return danger
        if name in _SHELLS:
            return self._in_shell(words, command)
        if name in ("source", "."):
            return self._first(self._echoed) if any("()" in word for word in words[1:]) else ""
        if name == "eval":
            return self.judge(" ".join(words[1:]))
        if name == "trap" and len(words) > 1:
            return self.judge(words[1])
        if name in ("at", "batch"):
            return self._in_shell(words, command)
        if name in ("find", "fd", "fdfind"):
            return self._in_find(words, command)
        if name in _RUNNERS:
            return self._behind_runner(name, words, command)
        return ""

    def _in_shell(self, words: Sequence[str], command: SimpleCommand) -> str:
        if any(re.fullmatch(r"[-+][A-Za-z]*c[A-Za-z]*", word) for word in words[1:]):
            return self._first([word for word in words[1:] if not word.startswith("-")])
        texts = [command.is_fed]
        if any("()" in word for word in words[1:]):  # bash <(echo ...)
            texts += self._echoed
        source = command.piped_from
        for _ in range(_WORDS_TRIED):
            said = _without_prefix(source.words) if source is not None else ()
            if (
                source is None
                or not said
                or _name_of(said[0]) not in ("echo", "printf", "cat", "tee")
            ):
                break
            texts += [" ".join(said[1:]), *said[1:], source.is_fed]
            source = source.piped_from
        return self._first(texts)

    def _first(self, texts: Iterator[str] | Sequence[str]) -> str:
        return next(filter(None, map(self.judge, texts)), "")

    def _in_find(self, words: Sequence[str], command: SimpleCommand) -> str:
        if "-delete" in words:
            return _MANY
        for index, word in enumerate(words[:-1]):
            if word in _EXECUTES[_name_of(words[0]) == "find"]:
                run = words[index + 1 :]
                if _name_of(run[0]) == "rm":
                    return _MANY
                if danger := self._danger(run, command):
                    return danger
        return ""

    def _behind_runner(self, name: str, words: Sequence[str], command: SimpleCommand) -> str:
        # Wherever it begins: options are many, and change.
        for index in range(1, min(len(words), _WORDS_TRIED)):
            if danger := _destruction(_name_of(words[index]), words[index:]):
                return danger
        if name in _TAKE_TEXT and (danger := self._first(w for w in words[1:] if " " in w)):
            return danger
        run = _behind_options(words, *_RUNNERS[name])
        if not run:
            return ""
        if name in ("xargs", "parallel") and "rm" in _names_run(run):
            return _MANY
        return self._danger(run, command)


def _names_run(words: Sequence[str]) -> list[str]:
    """The program that these words run, and if that runs another, that one too, and so on."""
    names: list[str] = []
    while words and len(names) < _WORDS_TRIED:
        names.append(name := _name_of(words[0]))
        words = _without_prefix(_behind_options(words, *_RUNNERS[name])) if name in _RUNNERS else ()
    return names


def _split(word: str) -> Sequence[str]:
    """The words that a word becomes when what it stands for is filled in; of alternatives in braces, the first."""
    if word.startswith("{") and word.endswith("}") and "," in word:
        word = word[1:-1].replace(",", " ")
    return _BRACES.sub(r"\1", word).split()


def _without_prefix(words: Sequence[str]) -> Sequence[str]:
    """The words from the command's name on, without keywords and assignments."""
    start = 0
    while start < len(words):
        if words[start] == "function":
            start += 2
        elif words[start] in _KEYWORDS or _ASSIGNMENT.match(words[start]):
            start += 1
        else:
            break
    return words[start:]


def _behind_options(words: Sequence[str], with_value: str, before: int) -> Sequence[str]:
    """What a runner runs: the words behind its options and its own arguments."""
    index = 1
    while index < len(words):
        word = words[index]
        if word == "--":
            index += 1
            break
        if word.startswith("-") and len(word) > 1:
            takes_next = not word.startswith("--") and word[-1] in with_value
            index += 2 if takes_next else 1
        elif _ASSIGNMENT.match(word):
            index += 1
        else:
            break
    return words[index + before :]


def _name_of(word: str) -> str:
    return word.replace("\\", "/").rpartition("/")[2].lower().removesuffix(".exe")


def _destruction(name: str, words: Sequence[str]) -> str:
    """What a command destroys by its own doing."""
    if name == "rm" and any(_is_recursive(word) for word in _options(words)):
        return _RM
    if name in ("rd", "rmdir", "del", "erase") and any(word.lower() == "/s" for word in words[1:]):
        return _RM
    if name == "format" and any(re.fullmatch("[A-Za-z]:", word) for word in words[1:]):
        return _FORMAT
    if _MAKES_FILE_SYSTEM.fullmatch(name):
        return _FORMAT
    if name in ("remove-item", "ri") and any(re.match("(?i)-r", word) for word in words[1:]):
        return _RM
    if name in ("dd", "dcfldd", "dc3dd"):
        targets = [word[3:] for word in words if word.startswith("of=")]
        return _WRITE if any(_is_device(target) for target in targets) else ""
    if name in ("tee", "cp", "mv", "install", "shred", "truncate", "sponge"):
        operands = words[-1:] if name in ("cp", "mv", "install") else words[1:]
        if name == "tee" and _SYSRQ in map(_plain, operands):
            return _OFF
        return _WRITE if any(map(_is_disk, operands)) else ""
    if name == "killall5" or (name == "kill" and len(words) > 2 and words[-1] == "-1"):
        return _KILL
    return ""


def _switches_off(name: str, words: Sequence[str]) -> str:
    operands = [word for word in words[1:] if not word.startswith("-")]
    if name in _SWITCHES_OFF:
        return _OFF
    if name in ("init", "telinit"):
        return _OFF if operands[:1] in (["0"], ["6"]) else ""
    if name in ("systemctl", "loginctl"):
        return _OFF if not _SWITCHING_OFF.isdisjoint(operands[:1]) else ""
    return ""


def _options(words: Sequence[str]) -> Iterator[str]:
    for word in words[1:]:
        if word == "--":
            return
        if word.startswith("-"):
            yield word


def _is_recursive(option: str) -> bool:
    """Whether an option of `rm` means `--recursive`; GNU accepts it in part, and options behind operands."""
    if option.startswith("--"):
        return len(option) > 2 and "--recursive".startswith(option)
    return "r" in option.lower()


def _plain(path: str) -> str:
    """A path without its detours, such as `//dev/./sda`."""
    return "/" + posixpath.normpath(path).lstrip("/") if path.startswith("/") else path


def _is_disk(path: str) -> bool:
    return _DISK.match(_plain(path)) is not None


def _is_device(path: str) -> bool:
    path = _plain(path)
    return path.startswith("/dev/") and not _NO_DISK.match(path)
