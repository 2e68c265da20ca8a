r"""Dialogs as data: what a client says on one connection, step by step, read from `dialogs/*.txt`.

One file is one topic. `== NAME` begins a dialog, `#` a comment; every other line is a step:

    TEXT         a line: TEXT and CR LF; one reply is awaited
    & TEXT       the same, in one packet with the line before it
    = TEXT       bytes: no line end, but one reply is awaited
    ~ TEXT       bytes: no line end, no reply; in one packet with what follows
    : TEXT       a line of a mail: CR LF, no reply; only if DATA was answered with 354 (as are `~`, `=` and `.` there)
    *N TEXT      N lines one after the other, `#` in TEXT being their number, as one step
    @ehlo        EHLO            @mail   the same and MAIL      @rcpt   the same and RCPT     @data   the same and DATA
    @deliver     DATA and a short mail                          @rest   RCPT, DATA and a short mail
    @deliver?  @rest?  the same as far as the server accepts it
    @smuggle TEXT  `@data`, a mail with TEXT and another transaction in the middle, and a proper end
    @bytewise    every byte of this dialog is a packet          @early  the first packet goes out before the greeting
    @hangup      close without QUIT                             @shut   close our side, then read to the end

In TEXT `\r \n \t \0 \s \\ \xNN` are bytes (`\s` a blank, where an editor would take it away), and `{N TEXT}` is TEXT
N times. A dialog without an ending of its own ends with QUIT, and everything up to the server's close is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parent / "dialogs"

_TIMES = re.compile(rb"\{(\d+) ([^{}]*)\}")
_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.)")
_ESCAPES = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"s": b" ", b"\\": b"\\"}
_REPEATED = re.compile(r"\*(\d+) (.*)")

_MAIL = ["MAIL FROM:<sender@acme.example.jp>"]
_RCPT = ["RCPT TO:<ok@test.example>"]
_DELIVER = ["DATA", ": From: sender@acme.example.jp", ": Subject: short", ":", ": Hello.", "."]
_MACROS = {
    "@ehlo": ["EHLO client.example"],
    "@mail": ["EHLO client.example", *_MAIL],
    "@rcpt": ["EHLO client.example", *_MAIL, *_RCPT],
    "@data": ["EHLO client.example", *_MAIL, *_RCPT, "DATA"],
    "@deliver": _DELIVER,
    "@rest": [*_RCPT, *_DELIVER],
}
_INNER = (
    r"MAIL FROM:<smuggler@acme.example.jp>\r\nRCPT TO:<smuggled@test.example>\r\nDATA\r\n"
    r"From: smuggler@acme.example.jp\r\nSubject: inner\r\n\r\ninner"
)

ACCEPTED = "2"
WAITING = "354"
"""How the answers begin that a step may depend on."""

Ending = Literal["quit", "hangup", "shut"]


@dataclass(frozen=True, slots=True)
class Step:
    """`raw` is sent and a reply awaited, or not. What a person wrote as one line has one `number`.

    `joined`: in one packet with the step before. `after`: only if the last answer began with this.
    """

    label: str
    raw: bytes
    reply: bool = True
    joined: bool = False
    after: str = ""
    number: int = 0

    @property
    def place(self) -> str:
        """Which step of the dialog this is, for a person; unique in it."""
        return f"{self.number} {self.label[:60]}"


@dataclass(slots=True)
class Dialog:
    """One connection's worth of steps."""

    topic: str
    name: str
    steps: list[Step] = field(default_factory=list)
    bytewise: bool = False
    early: bool = False
    ending: Ending = "quit"


def topics() -> list[str]:
    """The names of the files, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def read(topic: str) -> list[Dialog]:
    """A topic's dialogs, in the file's order. Raises `ValueError` with the place of what cannot be read."""
    found: list[Dialog] = []
    for number, line in enumerate((FOLDER / f"{topic}.txt").read_text("utf-8").splitlines(), 1):
        if line.startswith("== "):
            found.append(Dialog(topic, line[3:]))
        elif line and not line.startswith("#"):
            try:
                _add(found[-1], line)
            except (LookupError, ValueError) as error:
                raise ValueError(f"{topic}.txt:{number}: {error}: {line}") from error
    return found


def of(*lines: str) -> Dialog:
    """A dialog that stands in no file."""
    dialog = Dialog("", "")
    for line in lines:
        _add(dialog, line)
    return dialog


def _add(dialog: Dialog, line: str) -> None:
    if line == "@bytewise":
        dialog.bytewise = True
    elif line == "@early":
        dialog.early = True
    elif line in ("@hangup", "@shut"):
        dialog.ending = "hangup" if line == "@hangup" else "shut"
    else:
        for expanded in _expanded(line):
            number = dialog.steps[-1].number + dialog.steps[-1].reply if dialog.steps else 1
            for text in _repeated(expanded):
                step = _step(expanded, text, dialog.steps[-1] if dialog.steps else None)
                after = step.after or (ACCEPTED if line.endswith("?") and line[:-1] in _MACROS else "")
                dialog.steps.append(replace(step, number=number, after=after))


def _repeated(line: str) -> list[str]:
    found = _REPEATED.fullmatch(line)
    return [found[2].replace("#", str(i + 1)) for i in range(int(found[1]))] if found else [line]


def _expanded(line: str) -> Iterator[str]:
    if line.startswith("@smuggle "):
        yield from _MACROS["@data"]
        yield rf"~ From: sender@acme.example.jp\r\nSubject: outer\r\n\r\nouter{line[9:]}{_INNER}\r\n"
        yield "."
    elif line.startswith("@"):
        yield from _MACROS[line.removesuffix("?")]
    else:
        yield line


def _step(label: str, line: str, before: Step | None) -> Step:
    joined = before is not None and not before.reply
    mail = WAITING if before is not None and _in_mail(line, before) else ""
    match line[:1], line[1:2]:
        case ("&", " "):
            return Step(label, _bytes(line[2:]) + b"\r\n", joined=True)
        case ("=", " "):
            return Step(label, _bytes(line[2:]), joined=joined, after=mail)
        case ("~", " "):
            return Step(label, _bytes(line[2:]), reply=False, joined=joined, after=mail)
        case (":", _):
            return Step(label, _bytes(line[2:]) + b"\r\n", reply=False, joined=joined, after=WAITING)
    return Step(label, _bytes(line) + b"\r\n", joined=joined, after=mail)


def _in_mail(line: str, before: Step) -> bool:
    """Whether a line is part of a mail, as the one before it was, or DATA right before it."""
    if before.after == WAITING:
        return not before.reply
    return before.label.lstrip("=& ").upper().startswith("DATA") and line[:1] in (":", "~", "=", ".")


def _bytes(text: str) -> bytes:
    raw = _TIMES.sub(lambda found: found[2] * int(found[1]), text.encode())
    return _ESCAPE.sub(lambda found: bytes([int(found[1][1:], 16)]) if len(found[1]) > 1 else _ESCAPES[found[1]], raw)
