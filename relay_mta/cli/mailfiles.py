"""Mails in and out of files, for `relay-mta check`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from relay_mta.core.errors import RelayError

STDIN = "-"


def find(names: Sequence[str]) -> Iterator[str | RelayError]:
    """The files that the arguments mean: themselves, and all *.eml below a folder in the order of their paths.

    An argument that means none is an error value, so that the others are still looked at.
    """
    for name in names:
        path = Path(name)
        if name == STDIN or not path.is_dir():
            yield name
            continue
        below = sorted(str(found) for found in path.rglob("*.eml") if found.is_file())
        if below:
            yield from below
        else:
            yield RelayError(f"{name}: there are no .eml files in this folder")


def read(name: str) -> bytes:
    """A mail as SMTP would carry it: a file with LF line ends alone gets CRLF, the last line its line end."""
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

    Two inputs of one name do not share a stem (the second gets STEM-2), and no input is ever written over.
    """

    def __init__(self, folder: Path, inputs: Sequence[str]) -> None:
        self._folder = folder
        self._inputs = {Path(name).resolve() for name in inputs if name != STDIN}
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
            if path.resolve() in self._inputs:
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
