"""What systemd hears on the socket that it would listen on: from `notify`, and from `relay-mta serve` as it runs it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay_mta.systemd import notify, watchdog_seconds
from tests.e2e.process import Relay, free_port


class Manager:
    """The end of systemd's: a datagram socket and its address as `NOTIFY_SOCKET` has it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(20)

    def hears(self) -> str:
        return self.socket.recv(4096).decode()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify") if request.param == "path" else f"@relay-mta-test-{secrets.token_hex(8)}")
    monkeypatch.setenv("NOTIFY_SOCKET", made.address)
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    yield made
    made.socket.close()


# --- one message ------------------------------------------------------------------------------------------------------


def test_a_state_is_heard(manager: Manager) -> None:
    for state in ("READY=1", "STATUS=採用", "STOPPING=1"):
        assert notify(state)
        assert manager.hears() == state


def test_nobody_hears_any_more(manager: Manager) -> None:
    manager.socket.close()
    assert not notify("READY=1")


@pytest.mark.parametrize(
    "address", [None, "", "relative/path", "vsock:2:1234", "@", "/nowhere/at/all", "/" + "x" * 200]
)
def test_where_nobody_wants_to_know_nothing_is_said(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify("READY=1")


def test_a_manager_that_does_not_read_holds_up_nothing(manager: Manager) -> None:
    """Its queue was full after a few messages, and the next one stopped the loop that carries the mail."""
    start = time.monotonic()
    for _ in range(2000):
        if not notify("WATCHDOG=1"):
            break
    else:
        pytest.fail("the queue has no end here")
    assert time.monotonic() - start < 5
    assert manager.hears() == "WATCHDOG=1"
    assert notify("WATCHDOG=1")  # and it goes on when there is room again


def test_no_descriptor_is_left_open(manager: Manager) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        notify("WATCHDOG=1")
    assert len(os.listdir("/proc/self/fd")) == before


# --- the watchdog -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [
        ("30000000", None, 15.0),
        pytest.param("30000000", str(os.getpid()), 15.0, id="ours"),
        ("1", None, 0.0000005),
        ("30000000", "1", None),  # for whoever started us
        ("30000000", "", None),
        ("0", None, None),
        ("", None, None),
        ("-5", None, None),
        ("30s", None, None),
        ("1.5", None, None),
        ("３０００", None, None),
        ("9" * 5000, None, None),  # more digits than Python reads
        (None, None, None),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time(
    monkeypatch: pytest.MonkeyPatch, microseconds: str | None, pid: str | None, seconds: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert watchdog_seconds() == seconds


# --- the relay itself -------------------------------------------------------------------------------------------------


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    folder = tmp_path / "relay"
    folder.mkdir()
    made = Relay(folder, upstream_port=free_port())
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def test_a_relay_is_ready_alive_and_stopping(manager: Manager, monkeypatch: pytest.MonkeyPatch, relay: Relay) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    relay.start()
    assert manager.hears() == "READY=1"
    with socket.create_connection(("127.0.0.1", relay.smtp_port), timeout=5) as client:  # it is, then
        assert client.recv(3) == b"220"
    start = time.monotonic()
    assert [manager.hears() for _ in range(5)] == ["WATCHDOG=1"] * 5
    assert time.monotonic() - start < 10
    assert relay.process is not None
    relay.process.send_signal(signal.SIGTERM)
    said = manager.hears()
    while said == "WATCHDOG=1":
        said = manager.hears()
    assert said == "STOPPING=1"
    assert relay.stop() == 0


def test_the_watchdog_is_fed_while_mails_in_flight_come_to_their_end(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, relay: Relay
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    with socket.create_server(("127.0.0.1", relay.upstream_port)) as upstream:
        relay.start()
        with socket.create_connection(("127.0.0.1", relay.smtp_port), timeout=10) as client:
            client.recv(1000)
            client.sendall(b"EHLO client.test\r\n")
            client.recv(1000)
            client.sendall(b"MAIL FROM:<hr@acme.example.jp>\r\n")  # the upstream does not greet: this takes its time
            assert relay.process is not None
            relay.process.send_signal(signal.SIGTERM)
            while manager.hears() != "STOPPING=1":
                pass
            assert [manager.hears() for _ in range(5)] == ["WATCHDOG=1"] * 5
            upstream.close()
    relay.kill()


def test_without_a_watchdog_there_is_nothing_to_feed(manager: Manager, relay: Relay) -> None:
    relay.start()
    assert manager.hears() == "READY=1"
    assert relay.stop() == 0
    assert manager.hears() == "STOPPING=1"
    manager.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.hears()


def test_a_relay_that_cannot_start_is_never_ready(manager: Manager, relay: Relay) -> None:
    with (
        socket.create_server(("127.0.0.1", relay.smtp_port)),
        pytest.raises(AssertionError, match="the relay ended with 1"),
    ):
        relay.start()
    manager.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.hears()
