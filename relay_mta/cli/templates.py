"""`relay-mta templates`: the blocks that go into rejections, as files that an admin may replace.

Which templates? The shipped ones; with --config those of a configuration (its companies' own on top), with DIR that
folder on top. `relay_mta.templatefolder` says how files go together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from relay_mta import templatecheck, templatefolder
from relay_mta.cli.root import complain
from relay_mta.config import Config, load
from relay_mta.core.company import Company
from relay_mta.core.errors import RelayError, TemplateError
from relay_mta.examine import SAMPLE_AGENCY
from relay_mta.templatecheck import LANGUAGES, SAMPLE_BASE_URL, Trial

_PATH = click.Path(path_type=Path)
_SAMPLE = Company("sample", "サンプル株式会社", ("sample.example",), SAMPLE_AGENCY)
_config = click.option(
    "--config", "-c", "path", type=_PATH, metavar="FILE", help="The templates of this configuration."
)
_company = click.option("--company", metavar="ID", help="With --config: those of this company.")


@click.group()
def templates() -> None:
    """The block templates: check them and show what they make."""


@templates.command()
@click.argument("folder", required=False, type=_PATH, metavar="[DIR]")
@_config
@_company
@click.pass_context
def check(ctx: click.Context, *, folder: Path | None, path: Path | None, company: str | None) -> None:
    """Find everything that is wrong with templates, and try them.

    Each is rendered and put into a sample letter in either language, as plain text and HTML, in every character set and
    encoding of mail in Japan. Says how it came in: as written, with look-alike characters, in its plain variant, as
    numeric references, or with the letter's text converted to UTF-8. Exit status 1 if a template cannot be used.
    """
    config = load(path) if path is not None else None
    failed = False
    for one in _companies(config, company):
        try:
            made = templatefolder.load(_folders(config, one, folder))
        except TemplateError as error:
            complain(str(error))
            failed = True
            continue
        base_url = config.web.base_url if config is not None else SAMPLE_BASE_URL
        found = list(templatecheck.trials(made, one, base_url))
        for line in _lines(found):
            click.echo(f"{one.id}: {line}")
        failed = failed or any(trial.failure for trial in found)
    if failed:
        ctx.exit(1)


@templates.command()
@click.argument("language", type=click.Choice(LANGUAGES))
@click.option("--html", is_flag=True, help="The HTML block instead of the text.")
@click.option("--plain", is_flag=True, help="The plain variant instead of the text.")
@_config
@_company
def show(*, language: str, html: bool, plain: bool, path: Path | None, company: str | None) -> None:
    """The block that candidates of a company get, with a link that opens nothing."""
    if html and plain:
        raise click.UsageError("--html and --plain are two blocks: choose one of them.")
    config = load(path) if path is not None else None
    companies = _companies(config, company)
    if len(companies) > 1:
        raise click.UsageError(f"which company? --company {' or '.join(one.id for one in companies)}")
    made = templatefolder.load(_folders(config, companies[0], None))
    base_url = config.web.base_url if config is not None else SAMPLE_BASE_URL
    block = templatecheck.sample(made, "en" if language == "en" else "ja", companies[0], base_url)
    click.echo(block.html if html else block.plain if plain else block.text)


def _companies(config: Config | None, id: str | None) -> Sequence[Company]:
    if config is None:
        if id is not None:
            raise click.UsageError("--company needs --config")
        return [_SAMPLE]
    found = [each.company for each in config.companies if id in (None, each.company.id)]
    if not found:
        raise RelayError(f"there is no company {id!r} in the configuration")
    return found


def _folders(config: Config | None, company: Company, folder: Path | None) -> tuple[Path, ...]:
    own = next((each for each in config.companies if each.company.id == company.id), None) if config else None
    folders = config.template_folders(own) if config is not None else ()
    return (*folders, folder) if folder is not None else folders


def _lines(trials: Sequence[Trial]) -> list[str]:
    """One line for each language, kind and character set: how the block came in, by encoding where that differs."""
    lines = []
    for language, kind, charset in dict.fromkeys((each.language, each.kind, each.charset) for each in trials):
        of_it = [each for each in trials if (each.language, each.kind, each.charset) == (language, kind, charset)]
        ways: dict[str, list[str]] = {}
        for each in of_it:
            ways.setdefault(f"FAILS ({each.failure})" if each.failure else each.way, []).append(each.encoding)
        said = "; ".join(way if len(ways) == 1 else f"{way} in {', '.join(names)}" for way, names in ways.items())
        lines.append(f"{language}  text/{kind:<6} {charset:<12} {said}")
    return lines
