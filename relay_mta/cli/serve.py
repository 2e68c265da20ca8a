"""`relay-mta serve`: the relay and the web in one process, in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from relay_mta import process
from relay_mta.cli.options import config_file
from relay_mta.config import load


@click.command()
@config_file
@click.pass_context
def serve(ctx: click.Context, path: Path) -> None:
    """Relay mail until SIGTERM, which lets the mails in flight finish."""
    ctx.exit(process.run(load(path)))
