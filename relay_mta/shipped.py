"""The rules, block templates and sample mails that come with the program.

In an installed wheel the rules lie inside the package; in a checkout they lie at the top of the repository, where an
admin finds them. Everything is returned as (file name, content) in the order of the names; nothing is parsed here.
"""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path


def rules() -> list[tuple[str, bytes]]:
    """The shipped detection rules, in load order."""
    folder: Traversable = _package().joinpath("rules")
    if not folder.is_dir():
        folder = Path(__file__).resolve().parent.parent / "rules"
    return _files(folder, ".toml")


def templates() -> dict[str, str]:
    """The default link blocks by name: "ja.txt", "ja.plain.txt", "ja.html" and the same in "en"."""
    found = _files(_package().joinpath("templates"), ".txt", ".html")
    return {name: content.decode("utf-8") for name, content in found}


def samples() -> list[tuple[str, bytes]]:
    """The demo's mails (.eml), as a mail client wrote them."""
    return _files(_package().joinpath("samples"), ".eml")


def sample_notes() -> bytes:
    """samples.toml: what the relay must do with each sample."""
    return _package().joinpath("samples", "samples.toml").read_bytes()


def _package() -> Traversable:
    return resources.files("relay_mta")


def _files(folder: Traversable, *endings: str) -> list[tuple[str, bytes]]:
    names = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(endings) and not entry.name.startswith(".")),
        key=lambda entry: entry.name,
    )
    return [(entry.name, entry.read_bytes()) for entry in names if entry.is_file()]
