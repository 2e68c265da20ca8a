"""What a person gets wrong, as they meet it: one clear line for each mistake, a non-zero exit, and no mail lost."""

from __future__ import annotations

import os
import smtplib
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.process import BASE_CONFIG, Relay, free_port, relay_mta, without_received
from tests.e2e.upstream import ScriptedUpstream

MAIL = (
    b"From: saiyo@acme.example.jp\r\nTo: k.sasaki@mail.example.net\r\nSubject: hello\r\n"
    b"Message-ID: <1@acme.example.jp>\r\n\r\nNothing of importance.\r\n"
)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    """A relay whose upstream is away; stopped whatever happens."""
    made = Relay(tmp_path, upstream_port=free_port())
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def complaints(relay: Relay) -> list[str]:
    """What `serve` says on standard error when it does not start: whole lines of ours, and nothing else."""
    done = relay_mta("serve", "--config", str(relay.config), cwd=relay.folder, seconds=60)
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr + done.stdout
    lines = done.stderr.splitlines()
    assert lines and all(line.startswith("relay-mta: ") for line in lines), done.stderr
    assert all(len(line) < 400 for line in lines), done.stderr
    return lines


def rewrite(relay: Relay, change: Callable[[str], str]) -> None:
    text = relay.config.read_text("utf-8")
    changed = change(text)
    assert changed != text
    relay.config.write_text(changed, "utf-8")


# --- the configuration ----------------------------------------------------------------------------------------------


def test_there_is_no_such_configuration(relay: Relay) -> None:
    relay.config.unlink()
    (line,) = complaints(relay)
    assert "config.toml" in line and "no such file" in line


def test_the_configuration_is_not_toml(relay: Relay) -> None:
    rewrite(relay, lambda text: text.replace('tls = "none"', 'tls = "none', 1))
    (line,) = complaints(relay)
    assert "config.toml:7" in line and "TOML" in line


def test_an_unknown_key_is_named(relay: Relay) -> None:
    rewrite(relay, lambda text: text.replace("base_url", "base_ulr"))
    found = complaints(relay)
    assert any("config.toml:11: web.base_ulr" in line for line in found)
    assert any("web.base_url" in line and "missing" in line for line in found)


def test_all_problems_are_reported_at_once(relay: Relay) -> None:
    def change(text: str) -> str:
        text = text.replace('mode = "relay"', 'mode = "loud"').replace('"127.0.0.0/8"', '"127.0.0.0/99"')
        return text.replace("relays_per_credit = 10", 'relays_per_credit = "ten"').replace(
            'hostname = "', 'hostname = " '
        )

    rewrite(relay, change)
    found = complaints(relay)
    assert len(found) == 4
    for line, key in zip(found, ("hostname", "mode", "clients", "relays_per_credit"), strict=True):
        assert key in line and "expected" in line and "config.toml:" in line


def test_a_configuration_for_another_ledger(relay: Relay) -> None:
    rewrite(relay, lambda text: text.replace("tinydb:", "mysql://root:hunter2@db/"))
    (line,) = complaints(relay)
    assert "ledger" in line


# --- the rules ------------------------------------------------------------------------------------------------------


def with_rules(relay: Relay, content: bytes | None) -> None:
    folder = relay.folder / "own-rules"
    folder.mkdir()
    if content is not None:
        (folder / "10_own.toml").write_bytes(content)
    rewrite(relay, lambda text: text.replace("[[company]]", '[rules]\ndirectory = "own-rules"\n\n[[company]]', 1))


@pytest.mark.parametrize(
    "content",
    [b"[[rule]\nid = 3\n", b"\xff\xfe[[rule]]\n", b'[[rule]]\nid = "X"\nnonsense = true\n'],
    ids=["not-toml", "not-utf-8", "unknown-key"],
)
def test_a_broken_rule_file(relay: Relay, content: bytes) -> None:
    with_rules(relay, content)
    found = complaints(relay)
    assert all("10_own.toml" in line for line in found)


def test_rule_files_that_cannot_be_read(relay: Relay) -> None:
    with_rules(relay, None)
    folder = relay.folder / "own-rules"
    (folder / "10_own.toml").symlink_to("10_own.toml")
    with (folder / "20_own.toml").open("wb") as file:
        file.truncate(50 << 20)
    circle, large = complaints(relay)
    assert "10_own.toml" in circle and "in a circle" in circle
    assert "20_own.toml" in large and "52428800 bytes" in large


def test_a_folder_with_one_local_file_is_enough(relay: Relay) -> None:
    with_rules(relay, b"[scoring]\nthreshold = 11\n")
    relay.start()
    assert relay.stop() == 0


def test_a_folder_without_rules(relay: Relay) -> None:
    with_rules(relay, None)
    (line,) = complaints(relay)
    assert "own-rules" in line


# --- the machine ----------------------------------------------------------------------------------------------------


def test_data_dir_is_a_file(relay: Relay) -> None:
    relay.data_dir.write_text("not a folder")
    (line,) = complaints(relay)
    assert "config.toml:2: data_dir: " in line and "is not a folder" in line
    assert relay.data_dir.read_text() == "not a folder"


def test_data_dir_cannot_be_made(relay: Relay) -> None:
    rewrite(relay, lambda text: text.replace(str(relay.data_dir), "/proc/relay-mta/var"))
    (line,) = complaints(relay)
    assert "/proc/relay-mta" in line


def test_data_dir_cannot_be_written(relay: Relay) -> None:
    if os.geteuid() == 0:  # root may write anywhere but where the kernel says no
        rewrite(relay, lambda text: text.replace(str(relay.data_dir), "/proc/self"))
        place = "/proc/self"
    else:
        relay.data_dir.mkdir()
        relay.data_dir.chmod(stat.S_IRUSR | stat.S_IXUSR)
        place = str(relay.data_dir)
    (line,) = complaints(relay)
    assert place in line


def test_two_relays_cannot_share_a_data_dir(relay: Relay, tmp_path: Path) -> None:
    relay.start()
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    other = Relay(other_folder, upstream_port=relay.upstream_port)
    rewrite(other, lambda text: text.replace(str(other.data_dir), str(relay.data_dir)))
    (line,) = complaints(other)
    assert "var" in line
    assert relay.stop() == 0


@pytest.mark.parametrize("port", ["smtp_port", "web_port"])
def test_a_port_in_use(relay: Relay, port: str) -> None:
    with socket.create_server(("127.0.0.1", getattr(relay, port))):
        (line,) = complaints(relay)
        assert f"127.0.0.1:{getattr(relay, port)}" in line
    relay.start()  # nothing was left behind that would keep it from starting now
    assert relay.stop() == 0


# --- the upstream ---------------------------------------------------------------------------------------------------


def test_an_unreachable_upstream_defers_and_loses_nothing(relay: Relay) -> None:
    relay.start()
    with smtplib.SMTP("127.0.0.1", relay.smtp_port, "client.example", timeout=60) as client:
        client.ehlo()
        for _ in range(2):
            code, text = client.docmd("MAIL FROM:<saiyo@acme.example.jp>")
            assert code == 451 and text.startswith(b"4.4.1 ")
            assert b"Errno" not in text and b"127.0.0.1" not in text
    assert relay.stop() == 0
    assert "Traceback" not in relay.said()

    upstream = ScriptedUpstream()  # the upstream is back, at its place: the client's next try goes through
    try:
        relay.config.write_text(relay.config.read_text().replace(f"{relay.upstream_port}", f"{upstream.port}"))
        relay.start()
        with smtplib.SMTP("127.0.0.1", relay.smtp_port, "client.example", timeout=60) as client:
            assert client.sendmail("saiyo@acme.example.jp", ["k.sasaki@mail.example.net"], MAIL) == {}
        assert relay.stop() == 0
    finally:
        upstream.stop()
    (delivery,) = upstream.deliveries
    assert without_received(delivery.raw) == MAIL


def test_the_base_configuration_is_good(relay: Relay) -> None:
    assert BASE_CONFIG.count("{") >= 4
    relay.start()
    assert relay.stop() == 0
