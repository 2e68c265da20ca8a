"""`relay-mta dkim`: the key with which the relay signs again what it has changed."""

from __future__ import annotations

from pathlib import Path

import click

from relay_mta.cli.options import company_in, config_file
from relay_mta.core.errors import RelayError
from relay_mta.signing import Signer, generate


@click.group()
def dkim() -> None:
    """The DKIM key of a company with dkim = "resign"."""


@dkim.command()
@click.argument("company")
@config_file
def keygen(*, company: str, path: Path) -> None:
    """Make the key of COMPANY, if it has none yet, and print the DNS record that publishes it.

    The file is the configuration's dkim_key; one that is there is not replaced, and its record is printed again.
    Publish the record before you set dkim = "resign".
    """
    found = company_in(path, company)
    if found.dkim_key is None:
        raise RelayError(f"{path}: company {company!r} has no dkim_selector and dkim_key")
    key = found.dkim_key
    if not key.path.exists():
        generate(key.path)
        click.echo(f"{key.path}: a new key, readable by its owner alone", err=True)
    click.echo(Signer(key.path, domain=key.domain, selector=key.selector).record())
