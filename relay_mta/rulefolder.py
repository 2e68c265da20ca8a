"""The rule files in force: the shipped ones, and on top of them the operator's folder and a company's own.

A file has the place of its name, whichever folder it lies in. One that has a shipped file's name *replaces* that file,
every other one adds (as with systemd's drop-ins); an empty file takes a shipped one out. So an upgrade never touches
what an admin wrote, and a folder with `90_local.toml` alone is a good folder. Hidden files, and files that do not end
in `.toml`, are nobody's business here.

What cannot be read is a `Problem` that names it: a folder that is not there or has no rule file, a link that leads
nowhere or in a circle, something that is no file, more than `rulefile.LARGEST_FILE` bytes (which are then not read).
What a file says is read by `core.rulefile`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from relay_mta import shipped
from relay_mta.core.errors import Problem, RuleError
from relay_mta.core.rulefile import LARGEST_FILE
from relay_mta.core.rules import RuleSet

SHIPPED = "shipped/"
"""Stands before the name of a shipped file wherever a file is named: its real path is the installation's affair."""

Stamp = tuple[tuple[str, int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class RuleFile:
    """One file in force. `place` is what problems call it; `replaces` the place of the file whose name it took over."""

    name: str
    place: str
    content: bytes
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class Gathered:
    """The files in force, in load order, and what could not be read of them."""

    files: tuple[RuleFile, ...]
    problems: tuple[Problem, ...]

    def parts(self) -> list[tuple[str, bytes]]:
        """As `core.rulefile.read` and `RuleSet.parse` take them."""
        return [(each.place, each.content) for each in self.files]


def gather(folders: Sequence[Path] = (), *, alone: bool = False) -> Gathered:
    """The shipped files with each folder on top of those before it; `alone`: without the shipped ones."""
    files: dict[str, RuleFile] = {}
    problems: list[Problem] = []
    if not alone:
        files = {name: RuleFile(name, SHIPPED + name, content) for name, content in shipped.rules()}
    for folder in folders:
        for found in _read(folder):
            if isinstance(found, Problem):
                problems.append(found)
            else:
                before = files.get(found.name)
                files[found.name] = replace(found, replaces=before.place) if before is not None else found
    return Gathered(tuple(files[name] for name in sorted(files)), tuple(problems))


def parse(gathered: Gathered) -> RuleSet:
    """The rule set of gathered files. Raises `RuleError` with all that is wrong, in reading and in what was read."""
    try:
        rules = RuleSet.parse(gathered.parts())
    except RuleError as error:
        raise RuleError((*gathered.problems, *error.problems)) from None
    if gathered.problems:
        raise RuleError(gathered.problems)
    return rules


def load(folders: Sequence[Path] = ()) -> RuleSet:
    """The rule set of the shipped files and these folders. Raises `RuleError`."""
    return parse(gather(folders))


def stamp(folders: Sequence[Path]) -> Stamp:
    """Names, sizes and times of the folders' rule files: another stamp means that something may have changed.

    It follows links. What is in the way becomes part of the stamp; never raises `OSError`.
    """
    found: list[tuple[str, int, int, int, int]] = []
    for folder in folders:
        try:
            names = _names(folder)
        except OSError as error:
            found.append((str(folder), -1, error.errno or 0, 0, 0))
            continue
        for name in names:
            try:
                seen = os.stat(folder / name)
                found.append((name, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino))
            except OSError as error:
                found.append((name, -1, error.errno or 0, 0, 0))
    return tuple(found)


def _names(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".toml") and not name.startswith("."))


def _read(folder: Path) -> Iterator[RuleFile | Problem]:
    try:
        names = _names(folder)
    except OSError as error:
        yield Problem(str(folder), f"the rules cannot be read: {_told(error)}")
        return
    if not names:
        yield Problem(str(folder), "there are no rule files in this folder; expected at least one .toml file")
    for name in names:
        place = os.fsencode(folder / name).decode("utf-8", "replace")
        try:
            content = _content(folder / name)
        except OSError as error:
            yield Problem(place, f"cannot be read: {_told(error)}")
            continue
        yield Problem(place, content) if isinstance(content, str) else RuleFile(name, place, content)


def _content(path: Path) -> bytes | str:
    """A file's bytes, or why they are not a rule file's."""
    with open(path, "rb", opener=_without_waiting) as file:
        seen = os.fstat(file.fileno())
        if not stat.S_ISREG(seen.st_mode):
            return "is not a file; expected TOML"
        content = file.read(LARGEST_FILE + 1) if seen.st_size <= LARGEST_FILE else b""
    size = max(seen.st_size, len(content))
    if size > LARGEST_FILE:
        return f"has {size} bytes or more; a rule file has at most {LARGEST_FILE}"
    return content


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # to open a pipe that nobody writes to must not hang us


def _told(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "its symbolic links lead in a circle"
    return error.strerror or type(error).__name__
