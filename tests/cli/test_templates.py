"""`relay-mta templates`: an admin's templates, checked and tried before a candidate sees one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay_mta import shipped
from relay_mta.cli.root import root
from tests.test_config import SMALL

OWN = "{{ agency }}からのご案内です。\n\n{{ link }}\n\n受け取らない場合:\n{{ opt_out }}\n"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(root, ["templates", *map(str, arguments)])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(SMALL, "utf-8")
    return path


def test_the_shipped_ones_come_in_everywhere() -> None:
    result = run("check")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0 and len(lines) == 2 * 2 * 6
    assert "sample: ja  text/plain  ISO-2022-JP  as written" in lines
    assert "sample: ja  text/html   US-ASCII     numeric references" in lines
    assert "sample: ja  text/plain  US-ASCII     text converted to UTF-8" in lines


def test_a_folder_of_ones_own_is_tried(tmp_path: Path) -> None:
    (tmp_path / "ja.txt").write_text("①㈱～ " + OWN, "utf-8")
    result = run("check", tmp_path)
    assert result.exit_code == 0
    assert "ja  text/plain  ISO-2022-JP  plain variant" in result.stdout  # readers of the letter may lack ① and ㈱
    assert "ja  text/plain  UTF-8        as written" in result.stdout


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("ja.txt", b"{{ agency }}\n{{ link }}\n", "ja.txt: the template must use {{ opt_out }}"),
        ("ja.txt", OWN.encode() + b"\n{{ 'x' * 9 }}", "ja.txt:8: a block's template cannot use the operator *"),
        ("ja.txt", OWN.encode() + b"{{ company.x }}", "ja.txt:7: a block's template cannot use an attribute"),
        ("ja.txt", OWN.encode("cp932"), "ja.txt: line 1 is not UTF-8"),
        ("ja.txt", b"x" * 100_000, "ja.txt: has more than 65536 bytes"),
        ("japanese.txt", OWN.encode(), "japanese.txt: no template has this name; the names are ja.txt, ja.plain.txt"),
        ("ja.plain.txt", ("①" + OWN).encode(), "ja.plain.txt: the plain variant must be ASCII and JIS X 0208"),
        ("en.html", b"{{ agency }}{{ link }}{{ opt_out }}{{ name }}", "en.html:1: unknown variable 'name'"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    result = run("check", tmp_path)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"relay-mta: {tmp_path}/") and says in line


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    assert "there are no templates in this folder" in run("check", tmp_path).stderr
    assert "cannot be read" in run("check", tmp_path / "nowhere").stderr
    os.symlink("ja.txt", tmp_path / "ja.txt")
    assert "ja.txt: cannot be read" in run("check", tmp_path).stderr


def test_a_companys_own_goes_on_top(config: Path, tmp_path: Path) -> None:
    everyone, acme = tmp_path / "templates", tmp_path / "acme"
    for folder in (everyone, acme):
        folder.mkdir()
        (folder / "ja.txt").write_text(f"{folder.name}: {OWN}", "utf-8")
    assert run("show", "ja", "--config", config).stdout.startswith("templates: ")
    config.write_text(SMALL.replace('id = "acme"', 'id = "acme"\ntemplates = "acme"'), "utf-8")
    assert run("show", "ja", "--config", config).stdout.startswith("acme: ")
    assert "https://relay.example.jp/stop/" in run("show", "ja", "--config", config, "--html").stdout
    assert run("check", "--config", config, "--company", "acme").exit_code == 0
    assert "there is no company 'beta'" in run("check", "--config", config, "--company", "beta").stderr


def test_show() -> None:
    for language in ("ja", "en"):
        text, plain, html = (run("show", language, *more).stdout for more in ((), ("--plain",), ("--html",)))
        assert text.count("/r/") == plain.count("/r/") == 1 and html.startswith("<div")
        assert all("/stop/" in each for each in (text, plain, html))
    assert run("show", "ja", "--html", "--plain").exit_code == 2


def test_every_shipped_template_is_named() -> None:
    assert set(shipped.templates()) == {
        f"{language}.{kind}" for language in ("ja", "en") for kind in ("txt", "plain.txt", "html")
    }
