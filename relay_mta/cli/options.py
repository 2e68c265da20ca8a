"""Options that several commands have, and what they name."""

from __future__ import annotations

from pathlib import Path

import click

from relay_mta.config import CompanyConfig, load
from relay_mta.core.errors import RelayError

config_file = click.option(
    "--config", "-c", "path", type=click.Path(path_type=Path), default="config.toml", show_default=True, metavar="FILE"
)


def company_in(path: Path, id: str) -> CompanyConfig:
    """One company of a configuration file. Raises `RelayError`."""
    found = next((each for each in load(path).companies if each.company.id == id), None)
    if found is None:
        raise RelayError(f"there is no company {id!r} in {path}")
    return found
