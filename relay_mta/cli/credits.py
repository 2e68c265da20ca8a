"""`relay-mta credits`: what the ledger says. Reads only, also while the relay runs.

Tokens and the personal records are never printed: who has a token can open the candidate's page.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relay_mta.cli.options import config_file
from relay_mta.cli.report import safe
from relay_mta.config import CompanyConfig, Config, load
from relay_mta.core.credit import Balance, Entry, balance
from relay_mta.core.errors import RelayError
from relay_mta.ledger.tinydb import read

_COLUMNS = (
    *("company", "seq", "id", "at", "kind", "relay", "copy_key", "candidate_key", "ruleset", "verdict", "reason"),
    *("commitment", "amount", "by", "prev", "hash"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

_company_option = click.option("--company", metavar="ID", help="Of this company alone.")


@click.group()
def credits() -> None:
    """What the ledger says: the balance, and the entries that it rests on."""


@credits.command("balance")
@click.argument("company", required=False)
@config_file
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def balance_command(*, company: str | None, path: Path, as_json: bool) -> None:
    """The companies' credits as of now, or those of COMPANY."""
    config = load(path)
    chosen = _chosen(config, company)
    entries = read(config.data_dir).entries
    now = datetime.now(UTC)
    rows = [
        (each, balance([entry for entry in entries if entry.company == each.company.id], each.company.credits, now))
        for each in chosen
    ]
    if as_json:
        for each, found in rows:
            click.echo(json.dumps({"company": each.company.id, **asdict(found)}))
    else:
        for each, found in rows:
            _console().print(_balance(each, found), end="")


@credits.command("entries")
@config_file
@_company_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def entries_command(*, path: Path, company: str | None, as_json: bool) -> None:
    """The ledger's entries, each company's in their order."""
    entries = _entries(path, company)
    if as_json:
        click.echo(_json(entries), nl=False)
    else:
        _console().print(_listing(entries))


@credits.command("export")
@config_file
@_company_option
@click.option("--csv", "as_csv", is_flag=True, help="For a spreadsheet.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def export_command(*, path: Path, company: str | None, as_csv: bool, as_json: bool) -> None:
    """Write all entries, with every field but the tokens, to standard output."""
    if as_csv == as_json:
        raise click.UsageError("choose one of --csv and --json.")
    write: Callable[[Sequence[Entry]], str] = _csv if as_csv else _json
    click.echo(write(_entries(path, company)), nl=False)


# --- reading --------------------------------------------------------------------------------------------------------


def _entries(path: Path, company: str | None) -> Sequence[Entry]:
    config = load(path)
    _chosen(config, company)
    return sorted(read(config.data_dir, company).entries, key=lambda entry: (entry.company, entry.seq))


def _chosen(config: Config, company: str | None) -> Sequence[CompanyConfig]:
    chosen = [each for each in config.companies if company in (None, each.company.id)]
    if not chosen:
        known = ", ".join(each.company.id for each in config.companies)
        raise RelayError(f'there is no company "{company}" in {config.source}; expected one of {known}')
    return chosen


# --- writing --------------------------------------------------------------------------------------------------------


def _console() -> Console:
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 160  # a pipe has no width, and a line for each entry is easier to search
    return console


def _balance(each: CompanyConfig, found: Balance) -> Text:
    text = Text()
    text.append(f"{each.company.id}", style="bold")
    text.append(f"  {safe(each.company.name)}\n")
    text.append(f"  credits available  {found.available}", style="bold")
    text.append(f"  = {found.credits_earned} earned + {found.adjusted} adjusted - {found.credits_used} used\n")
    text.append(f"  to the next credit {found.to_next or 'no terms in force'}\n")
    text.append(
        f"  relayed            {found.relays}, of which {found.counted} counted, {found.registered} registered\n"
    )
    text.append(f"  in doubt           {found.in_doubt}\n")
    return text


def _listing(entries: Sequence[Entry]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("company", "seq", "at", "kind", "relay", "amount", "reason", "by"):
        table.add_column(name, justify="right" if name in ("seq", "amount") else "left", overflow="fold")
    for entry in entries:
        amount = str(entry.amount) if entry.amount else ""
        cells = (entry.company, str(entry.seq), entry.at[:19] + "Z", entry.kind, entry.relay[:8], amount)
        table.add_row(*map(safe, (*cells, entry.reason, entry.by)))
    return table


def _fields(entry: Entry) -> dict[str, str | int]:
    document = entry.document()
    return {name: document[name] for name in _COLUMNS if name in document}


def _json(entries: Sequence[Entry]) -> str:
    return "".join(json.dumps(_fields(entry)) + "\n" for entry in entries)


def _csv(entries: Sequence[Entry]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for entry in entries:
        fields = _fields(entry)
        writer.writerow([cell(fields.get(name, "")) for name in _COLUMNS])
    return text.getvalue()


def cell(value: str | int) -> str | int:
    """A value that a spreadsheet shows and does not calculate: a text that begins like a formula gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
