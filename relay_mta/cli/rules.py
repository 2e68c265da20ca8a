"""`relay-mta rules`: what an admin asks about the detection rules, in files and in the running relay.

Which rules? The shipped ones; with --config those of a configuration (with --company of one company); with --rules, or
a folder behind `check`, that folder on top. `relay_mta.rulefolder` says how files go together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from relay_mta import rulecheck, rulefolder, rulemeasure, rulestatus
from relay_mta.cli import rulepages
from relay_mta.cli.root import complain
from relay_mta.config import load
from relay_mta.core.errors import RelayError
from relay_mta.core.rulefile import KINDS
from relay_mta.rulefolder import Gathered
from relay_mta.rulereport import Rules

_Command = TypeVar("_Command", bound=Callable[..., Any])
_PATH = click.Path(path_type=Path)


def _chosen(command: _Command) -> _Command:
    """The options that say which rules are meant."""
    for option in (
        click.option("--company", metavar="ID", help="With --config: the rules of this company."),
        click.option("--config", "-c", "config", type=_PATH, metavar="FILE", help="The rules of this configuration."),
    ):
        command = option(command)
    return command


_rules_option = click.option("--rules", "folder", type=_PATH, metavar="DIR", help="This folder on top of the others.")
_json_option = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")


@click.group()
def rules() -> None:
    """The detection rules: check, list, explain and measure them."""


@rules.command()
@click.argument("folder", required=False, type=_PATH, metavar="[DIR]")
@_chosen
@click.pass_context
def check(ctx: click.Context, *, folder: Path | None, config: Path | None, company: str | None) -> None:
    """Find everything that is wrong with rule files, the shipped ones and those of DIR.

    Reads all of them, tries every rule's own examples, and looks for what can have no effect. Notes go to standard
    output, problems to standard error; with any problem the exit status is 1. With --config and without --company every
    company's rules are checked.
    """
    own = [each.company.id for each in load(config).companies if each.rules] if config and not company else []
    checked = {name: rulecheck.check(_gathered(folder, config, name)) for name in (company, *own)}
    for note in dict.fromkeys(note for found in checked.values() for note in found.notes):
        click.echo(f"note: {rulepages.finding(note)}")
    for problem in dict.fromkeys(problem for found in checked.values() for problem in found.problems):
        complain(rulepages.finding(problem))
        caret = rulepages.caret(problem)
        if caret:
            click.echo(caret, err=True)
    for name, found in checked.items():
        click.echo((f"{name}: " if name else "") + rulepages.summary(found))
    if any(found.problems for found in checked.values()):
        ctx.exit(1)


@rules.command("list")
@_chosen
@_rules_option
@click.option("--kind", type=click.Choice(KINDS), help="Rules of this kind alone.")
@_json_option
def list_command(
    *, folder: Path | None, config: Path | None, company: str | None, kind: str | None, as_json: bool
) -> None:
    """The rules in force, a line each: id, kind, points, what it is about, and where it stands."""
    asked = Rules(_gathered(folder, config, company))
    listed = [rule for rule in asked.all() if kind in (None, rule.kind)]
    if as_json:
        for rule in listed:
            click.echo(json.dumps(rulepages.as_values(rule), ensure_ascii=False))
        return
    for line in rulepages.listed(listed):
        click.echo(line)
    click.echo(
        f"{len(listed)} rules, {asked.set.signs_count} signs, threshold {asked.set.threshold:g}, hash {asked.set.hash}"
    )


@rules.command()
@click.argument("id")
@_chosen
@_rules_option
def show(*, id: str, folder: Path | None, config: Path | None, company: str | None) -> None:
    """One rule: where it stands, what it looks for, and how its phrases are folded."""
    for line in rulepages.shown(Rules(_gathered(folder, config, company)).show(id)):
        click.echo(line)


@rules.command("explain-phrase")
@click.argument("text")
@_chosen
@_rules_option
def explain_phrase(*, text: str, folder: Path | None, config: Path | None, company: str | None) -> None:
    """How TEXT is folded, as a phrase and as a sentence, and which rules it meets."""
    if not text.strip():
        raise click.UsageError("TEXT is empty.")
    for line in rulepages.explained(Rules(_gathered(folder, config, company)).explain(text)):
        click.echo(line)


@rules.command()
@click.argument("mails", type=_PATH, metavar="DIR")
@click.option("--labels", type=_PATH, metavar="FILE", help="The labels, instead of DIR/labels.json.")
@click.option("--against", type=_PATH, metavar="DIR", help="Compare with the rules that have this folder on top.")
@click.option("--alone", is_flag=True, help="Take the folders of --rules and --against without the shipped files.")
@_chosen
@_rules_option
@_json_option
def measure(
    *,
    mails: Path,
    labels: Path | None,
    against: Path | None,
    alone: bool,
    folder: Path | None,
    config: Path | None,
    company: str | None,
    as_json: bool,
) -> None:
    """How often the rules are right on a folder of labelled mails (ID.eml and labels.json).

    Labels: {"ID": "rejection" or "other"}, or {"ID": {"label": …, "kind": …, "lang": …, "tier": …}}; mails of tier
    "unsure" do not count.
    """
    if alone and folder is None:
        raise click.UsageError("--alone needs --rules.")
    here = rulefolder.parse(_gathered(folder, config, company, alone=alone))
    there = rulefolder.parse(rulefolder.gather((against,), alone=alone)) if against is not None else None
    labelled = rulemeasure.read(mails, labels)
    measured = rulemeasure.measure(here, labelled)
    other = rulemeasure.measure(there, labelled) if there is not None else None
    if as_json:
        click.echo(rulemeasure.as_json(measured, other))
        return
    for line in rulepages.measured(measured):
        click.echo(line)
    if other is not None:
        for line in rulepages.compared(measured, other):
            click.echo(line)


@rules.command()
@click.option("--config", "-c", "config", type=_PATH, default="config.toml", show_default=True, metavar="FILE")
@_json_option
@click.pass_context
def status(ctx: click.Context, *, config: Path, as_json: bool) -> None:
    """Which rules the running relay has in force; exit status 1 while rule files are broken or nothing answers."""
    found = rulestatus.ask(load(config))
    for line in [rulepages.status_json(found)] if as_json else rulepages.status(found):
        click.echo(line)
    if found.state != "current":
        ctx.exit(1)


def _gathered(folder: Path | None, config: Path | None, company: str | None, *, alone: bool = False) -> Gathered:
    folders: Sequence[Path] = ()
    if company is not None and config is None:
        raise click.UsageError("--company needs --config.")
    if config is not None:
        found = load(config)
        named = [each for each in found.companies if each.company.id == company]
        if company is not None and not named:
            known = ", ".join(each.company.id for each in found.companies)
            raise RelayError(f"{config}: there is no company {company!r}; expected one of {known}")
        folders = found.rule_folders(named[0] if named else None)
    if folder is not None:
        folders = (*folders, folder)
    return rulefolder.gather(folders, alone=alone)
