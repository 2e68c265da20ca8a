"""`relay-mta`: the group that all commands hang from, and the one place where errors become lines.

Exit status 0: all went well; 1: something is wrong, said in one line each on standard error; 2: wrong usage.
A command's module is imported when it is asked for.
"""

from __future__ import annotations

import errno
import traceback
from importlib import import_module

import click

from relay_mta import __version__
from relay_mta.core.errors import RelayError

_COMMANDS = {
    "check": "relay_mta.cli.check",
    "credits": "relay_mta.cli.credits",
    "demo": "relay_mta.cli.demo",
    "dkim": "relay_mta.cli.dkim",
    "rules": "relay_mta.cli.rules",
    "serve": "relay_mta.cli.serve",
    "templates": "relay_mta.cli.templates",
    "users": "relay_mta.cli.users",
}


class _Root(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(_COMMANDS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except RelayError as error:
            complain(str(error))
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # the reader of our output left; click ends quietly
            complain(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:  # a fault of ours: its place, but never its text, which may quote a mail
            place = traceback.extract_tb(error.__traceback__)[-1]
            complain(f"internal error: {type(error).__name__} in {place.name} ({place.filename}:{place.lineno})")
        ctx.exit(1)


def complain(text: str) -> None:
    """Say on standard error what is wrong, each line of it."""
    for line in text.splitlines():
        click.echo(f"relay-mta: {line}", err=True)


@click.group(cls=_Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="relay-mta")
def root() -> None:
    """An SMTP relay that gives rejected job applicants a link of their own and passes every other mail on untouched."""
