"""The block templates in force: the shipped ones, and on top of them the operator's folder and a company's own.

A file takes the place of the shipped one of its name (`core.block.NAMES`: `ja.txt`, `ja.plain.txt`, `ja.html` and the
same in `en`); for those that are not there the shipped ones stay. Hidden files are nobody's business here, any other
one is a problem: a misspelt name would be a template that nobody ever sees. `core.block` says what a template may say.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from relay_mta import shipped
from relay_mta.config import Config
from relay_mta.core.block import NAMES, SOURCE_LIMIT, BlockTemplates
from relay_mta.core.errors import Problem, TemplateError

SHIPPED = "shipped/"
LARGEST_FILE = 4 * SOURCE_LIMIT
"""Bytes of a template: characters have up to four."""


def load(folders: Sequence[Path] = ()) -> BlockTemplates:
    """The templates of these folders on top of the shipped ones. Raises `TemplateError` with all that is wrong."""
    sources = shipped.templates()
    places = {name: SHIPPED + name for name in sources}
    problems: list[Problem] = []
    for folder in folders:
        for found in _read(folder):
            if isinstance(found, Problem):
                problems.append(found)
            else:
                name, sources[name] = found
                places[name] = str(folder / name)
    try:
        templates = BlockTemplates.parse(sources, places=places)
    except TemplateError as error:
        raise TemplateError((*problems, *error.problems)) from None
    if problems:
        raise TemplateError(tuple(problems))
    return templates


def load_own(config: Config) -> dict[str, BlockTemplates]:
    """Those of the companies that have a folder of their own, by id. Raises `TemplateError`."""
    return {
        each.company.id: load(config.template_folders(each)) for each in config.companies if each.templates is not None
    }


def _read(folder: Path) -> Iterator[tuple[str, str] | Problem]:
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        yield Problem(str(folder), f"the templates cannot be read: {error.strerror or error}")
        return
    if not names:
        yield Problem(str(folder), f"there are no templates in this folder; the names are {', '.join(NAMES)}")
    for name in names:
        place = str(folder / name)
        if name not in NAMES:
            yield Problem(place, f"no template has this name; the names are {', '.join(NAMES)}")
            continue
        text = _text(folder / name)
        yield Problem(place, text[1]) if text[0] is None else (name, text[0])


def _text(path: Path) -> tuple[str, str] | tuple[None, str]:
    """A template's text, or None and why it is none."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        return None, f"cannot be read: {error.strerror or error}"
    if len(content) > LARGEST_FILE:
        return None, f"has more than {LARGEST_FILE} bytes; a block is a dozen lines"
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n"), ""
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return None, f"line {line} is not UTF-8; expected a text saved as UTF-8"
