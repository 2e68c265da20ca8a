"""`relay-mta credits` over a real ledger on disk."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay_mta.cli.credits import cell
from relay_mta.cli.root import root
from relay_mta.core.ports import Candidacy
from relay_mta.ledger.tinydb import TinyLedger

CONFIG = """\
hostname = "relay.example.jp"
[[listener]]
address = "127.0.0.1:2525"
[web]
base_url = "https://relay.example.jp"
[[company]]
id = "acme"
name = "Acme"
domains = ["acme.example.jp"]
clients = ["127.0.0.0/8"]
upstream = { host = "smtp.example.jp" }
agency = { name = "Agency", url = "https://agency.example" }
[[company.credits]]
from = 2020-01-01
relays_per_credit = 2
[[company]]
id = "beta"
name = "Beta"
domains = ["beta.example.jp"]
clients = ["10.0.0.0/8"]
upstream = { host = "smtp.example.jp" }
agency = { name = "Agency", url = "https://agency.example" }
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture
def tokens(config: Path) -> list[str]:
    """A ledger with five relays at acme, one of them in doubt, and one at beta; returns their tokens."""

    async def fill() -> list[str]:
        ledger = TinyLedger(config.parent / "var")
        found = []
        for number in range(6):
            company = "beta" if number == 5 else "acme"
            address = f"candidate{number}@mail.example"
            candidacy = Candidacy(
                company, f"{number:064x}", f"{number:032x}", "r1", "score 9", address, "hr@x", "m", "ja"
            )
            held = await ledger.hold(candidacy)
            found.append(held.token)
            if number != 4:
                await ledger.settle(held)
        await ledger.close()
        return found

    (config.parent / "var").mkdir()
    return asyncio.run(fill())


def credits(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(root, ["credits", *arguments, "--config", str(config)])


def test_balance(config: Path, tokens: list[str]) -> None:
    result = credits(config, "balance", "--json")
    assert result.exit_code == 0, result.output
    acme, beta = map(json.loads, result.stdout.splitlines())
    assert (acme["company"], acme["relays"], acme["credits_earned"], acme["available"]) == ("acme", 4, 2, 2)
    assert (acme["to_next"], acme["in_doubt"]) == (2, 1)
    assert (beta["company"], beta["relays"], beta["credits_earned"]) == ("beta", 1, 0), "no terms, no credit"
    shown = credits(config, "balance", "acme")
    assert shown.exit_code == 0 and "acme" in shown.stdout and "beta" not in shown.stdout
    assert "credits available  2  = 2 earned + 0 adjusted - 0 used" in shown.stdout
    assert "no terms in force" in credits(config, "balance", "beta").stdout


def test_entries(config: Path, tokens: list[str]) -> None:
    result = credits(config, "entries", "--company", "acme", "--json")
    entries = [json.loads(line) for line in result.stdout.splitlines()]
    assert [entry["seq"] for entry in entries] == list(range(1, 10))
    assert {entry["company"] for entry in entries} == {"acme"}
    assert [entry["kind"] for entry in entries].count("relayed") == 4
    shown = credits(config, "entries")
    assert shown.exit_code == 0 and shown.stdout.count("relayed") == 5 and "beta" in shown.stdout


def test_no_token_and_nothing_personal_is_printed(config: Path, tokens: list[str]) -> None:
    for arguments in (["balance"], ["entries"], ["entries", "--json"], ["export", "--csv"], ["export", "--json"]):
        result = credits(config, *arguments)
        assert result.exit_code == 0 and result.stdout
        assert not any(token in result.stdout for token in tokens)
        assert "mail.example" not in result.stdout and "hr@x" not in result.stdout


def test_export(config: Path, tokens: list[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(credits(config, "export", "--csv").stdout)))
    objects = [json.loads(line) for line in credits(config, "export", "--json").stdout.splitlines()]
    assert len(rows) == len(objects) == 11
    for row, found in zip(rows, objects, strict=True):
        assert {name: value for name, value in row.items() if value} == {
            name: str(each) for name, each in found.items()
        }


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "＝1"])
def test_a_spreadsheet_calculates_nothing(text: str) -> None:
    assert cell(text) == "'" + text
    assert cell(-3) == -3 and cell("plain = text") == "plain = text"


def test_mistakes_are_one_line(config: Path, tmp_path: Path, tokens: list[str]) -> None:
    unknown = credits(config, "balance", "gamma")
    assert unknown.exit_code == 1 and unknown.stdout == ""
    assert unknown.stderr == f'relay-mta: there is no company "gamma" in {config}; expected one of acme, beta\n'
    for arguments in ([], ["--csv", "--json"]):
        assert credits(config, "export", *arguments).exit_code == 2
    (tmp_path / "other").mkdir()
    elsewhere = tmp_path / "other" / "config.toml"
    elsewhere.write_text(CONFIG, encoding="utf-8")
    nothing = credits(elsewhere, "balance")
    assert nothing.exit_code == 1 and len(nothing.stderr.splitlines()) == 1
    assert nothing.stderr.startswith("relay-mta: ") and not (tmp_path / "other" / "var").exists()
