"""`relay-mta demo`: the newcomer's first minute."""

from __future__ import annotations

import asyncio

import click
from rich.console import Console

from relay_mta import demo as demonstration


@click.command()
@click.option("--keep", is_flag=True, help="Leave the relay and the candidates' pages running until Ctrl-C.")
@click.pass_context
def demo(ctx: click.Context, *, keep: bool) -> None:
    """Send sample mails through a relay of its own and show what becomes of them.

    Needs no configuration and no network beyond this machine, and leaves nothing behind. The exit status is 0 only if
    every mail did what its sample says it should.
    """
    try:
        as_expected = asyncio.run(demonstration.run(Console(highlight=False), keep=keep))
    except KeyboardInterrupt:
        as_expected = True
    ctx.exit(0 if as_expected else 1)
