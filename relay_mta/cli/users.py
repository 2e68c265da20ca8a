"""`relay-mta users`: who may log in at the relay itself, where a company has auth = "users"."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from relay_mta import users as userfile
from relay_mta.cli.options import company_in, config_file
from relay_mta.core.errors import RelayError


@click.group()
def users() -> None:
    """The users of a company with auth = "users".

    A password is asked for twice, or read from standard input, one line, if that is not a terminal. What is changed
    holds for the next login; nobody who is logged in is thrown out.
    """


@users.command()
@click.argument("company")
@click.argument("name")
@config_file
def add(*, company: str, name: str, path: Path) -> None:
    """Let NAME log in as COMPANY."""
    file, known = _known(path, company)
    login = userfile.checked_login(name)
    if login in known:
        raise RelayError(f"{file}: there is a user {login!r} already; `relay-mta users passwd` gives another password")
    userfile.write(file, {**known, login: userfile.hashed(_password())})
    click.echo(f"{login} may log in as {company}", err=True)


@users.command()
@click.argument("company")
@click.argument("name")
@config_file
def passwd(*, company: str, name: str, path: Path) -> None:
    """Give NAME of COMPANY another password."""
    file, known = _known(path, company)
    login = _there(file, known, name)
    userfile.write(file, {**known, login: userfile.hashed(_password())})
    click.echo(f"{login} has another password", err=True)


@users.command()
@click.argument("company")
@click.argument("name")
@config_file
def remove(*, company: str, name: str, path: Path) -> None:
    """Let NAME of COMPANY log in no longer."""
    file, known = _known(path, company)
    login = _there(file, known, name)
    userfile.write(file, {each: hash for each, hash in known.items() if each != login})
    click.echo(f"{login} may not log in any more", err=True)


@users.command("list")
@click.argument("company")
@config_file
def list_(*, company: str, path: Path) -> None:
    """Print who may log in as COMPANY, a name a line."""
    for login in sorted(_known(path, company)[1]):
        click.echo(login)


def _known(path: Path, company: str) -> tuple[Path, dict[str, str]]:
    """The company's file, and who is in it."""
    found = company_in(path, company)
    if found.users is None:
        raise RelayError(f'{path}: company {company!r} has no users of its own; expected auth = "users"')
    return found.users, userfile.read(found.users)


def _there(file: Path, known: dict[str, str], name: str) -> str:
    login = name.lower()
    if login not in known:
        raise RelayError(f"{file}: there is no user {login!r}; `relay-mta users list` names them")
    return login


def _password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.buffer.readline().decode("utf-8", "surrogateescape").rstrip("\r\n")
