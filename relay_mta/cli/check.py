"""`relay-mta check`: what the relay would do with a mail, and why. Needs no server and no configuration."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from relay_mta.cli import mailfiles, report
from relay_mta.cli.root import complain
from relay_mta.config import load
from relay_mta.core.address import addresses
from relay_mta.core.errors import RelayError
from relay_mta.examine import Examination, Examiner


def _path(value: str) -> str:
    """A forward path, exactly as it could stand in RCPT TO:<…>."""
    found = addresses(value)
    local, _, domain = value.rpartition("@")
    if found.odd or found.paths != (value,) or not (local and domain and value.isprintable()):
        raise click.BadParameter(f"{value!r} is not one address; expected such as taro@mail.example")
    return value


def _printable_json(name: str, examination: Examination) -> str:
    line = report.as_json(name, examination)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return report.as_json(name, examination, ascii_only=True)
    return line


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE.eml|DIR|- …")
@click.option("--config", "-c", "path", type=click.Path(path_type=Path), metavar="FILE", help="Check as this company.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--diff", is_flag=True, help="Show the decoded text parts before and after.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the bytes that would go upstream to NAME.1.eml, NAME.2.eml …, a file per copy. Files of these names in "
    "DIR are written over, but never one of the mails to check.",
)
@click.option(
    "--to",
    multiple=True,
    metavar="ADDRESS",
    callback=lambda _ctx, _param, values: tuple(map(_path, values)),
    help="A recipient, instead of those of To, Cc and Bcc.",
)
@click.pass_context
def check(
    ctx: click.Context,
    *,
    files: Sequence[str],
    path: Path | None,
    as_json: bool,
    diff: bool,
    out: Path | None,
    to: Sequence[str],
) -> None:
    """What the relay would do with mails, and why.

    A folder stands for all .eml files below it, - for standard input. Without --config the domain of From counts as
    the company's own.
    """
    if as_json and diff:
        raise click.UsageError("--diff is for people and --json for programs: choose one of them.")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a log pipe or an old console may lack characters
    examiner = Examiner.from_config(load(path) if path is not None else None)
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    found = list(mailfiles.find(files))
    folder = mailfiles.OutFolder(out, [each for each in found if isinstance(each, str)]) if out is not None else None
    failed = False
    for name in found:
        try:
            if isinstance(name, RelayError):
                raise name
            examination = examiner.examine(mailfiles.read(name), to)
            if as_json:
                click.echo(_printable_json(name, examination))
            else:
                console.print(report.for_person(name, examination), end="")
            if diff:
                console.print(report.difference(name, examination), end="")
            if folder is not None:
                folder.write(name, examination.copies)
        except RelayError as error:
            failed = True
            complain(report.safe(str(error)))
    if failed:
        ctx.exit(1)
