"""Mails in and out of files, for `relay-mta check`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from relay_mta.core.errors import RelayError

STDIN = "-"


def find(names: Sequence[str]) -> Iterator[str | RelayError]:
    """The files that the arguments mean: themselves, and all *.eml below a folder in the order of their paths.

    An argument that means none is an error value, so that the others are still looked at.
    """
    stdin = 0
    for name in names:
        if name == STDIN:
            stdin += 1
            yield name if stdin == 1 else RelayError("-: is given twice; standard input can be read only once")
        elif os.path.isdir(name):  # unlike Path.is_dir, never an error
            yield from _below(name)
        else:
            yield name


def _below(folder: str) -> Iterator[str | RelayError]:
    unread: list[OSError] = []
    below = sorted(
        os.path.join(place, name)
        for place, _, names in os.walk(folder, onerror=unread.append)
        for name in names
        if name.lower().endswith(".eml") and os.path.isfile(os.path.join(place, name))
    )
    yield from below
    yield from (RelayError(f"{error.filename}: cannot be read: {error.strerror}") for error in unread)
    if not below and not unread:
        yield RelayError(f"{folder}: there are no .eml files in this folder")


def read(name: str) -> bytes:
    """A mail as a client would send it: a file with LF line ends alone gets CRLF, the last line its line end.

    Other CRs and LFs are left for whoever mends them as the relay does.
    """
    try:
        raw = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    except FileNotFoundError:
        raise RelayError(f"{name}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise RelayError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not raw.strip():
        raise RelayError(f"{name}: is empty; expected a mail")
    if b"\r" not in raw:
        raw = raw.replace(b"\n", b"\r\n")
    return (
        raw if raw.endswith(b"\r\n") else raw + b"\r\n"
    )  # RFC 5321 §4.1.1.4: the final dot stands on a line of its own


class OutFolder:
    """Where the bytes go that would go upstream: STEM.1.eml, STEM.2.eml …

    Two inputs of one name do not share a stem (the second gets STEM-2). A file of such a name that is there already is
    written over, so that a check can be repeated; but no input ever is, under whatever name.
    """

    def __init__(self, folder: Path, inputs: Sequence[str]) -> None:
        self._folder = folder
        self._inputs = {found for name in inputs if name != STDIN and (found := _identity(name)) is not None}
        self._stems: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RelayError(f"{folder}: cannot be made a folder: {error.strerror}") from None

    def write(self, name: str, copies: Sequence[Sequence[bytes | memoryview]]) -> list[Path]:
        """Write one mail's copies; returns their files."""
        stem = self._stem("stdin" if name == STDIN else Path(name).stem)
        paths = [self._folder / f"{stem}.{number}.eml" for number in range(1, len(copies) + 1)]
        for path, chunks in zip(paths, copies, strict=True):
            if _identity(path) in self._inputs:
                raise RelayError(f"{path}: is one of the mails to check; expected another folder for --out")
            try:
                with path.open("wb") as file:
                    file.writelines(chunks)
            except OSError as error:
                raise RelayError(f"{path}: cannot be written: {error.strerror}") from None
        return paths

    def _stem(self, wanted: str) -> str:
        stem, number = wanted, 1
        while stem in self._stems:
            number += 1
            stem = f"{wanted}-{number}"
        self._stems.add(stem)
        return stem


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Device and inode: the same for a file's every name; None for one that is not there."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
