"""One folder, one story: `tests/e2e/NN-name/`. A new story is a new folder; this file does not change for it.

    config.toml                 the relay's, with {smtp_port} {web_port} {upstream_port} {data_dir}
    mail.eml                    the mail as the client sends it (another file by an attempt's `mail_file`)
    session.toml                `what` it shows; `[[attempt]]`s of the client; `[[upstream]]` rules (upstream.Rule)
    expected/deliveries.toml    every mail that the upstream accepted, in order
    expected/*.eml              the mails in them that are not the same bytes
    ledger.toml                 every entry of the ledger, in order

`[[attempt]]`: `reverse_path`, `mail_params`, `recipients` (paths, or {path, params}), and what the client has to see:
`mail`, `rcpt` (list), `reply`: codes, 250 unless told, 0 for a lost connection; `reply_has`: words of the last reply.
`vanish`: the client resets the connection behind the final dot. `before = "restart"` stops and starts the relay first,
"start" starts it after a kill; `pause`: seconds to wait first.

`[[delivery]]`: `reverse_path`, `recipients`, `mail`: "same" (the client's bytes behind one Received field), "dsn" (with
`reports`: the addresses it reports as failed), or a file of expected/, in which {BLOCK} stands for the Japanese text of
the shipped template (its wording may change), {TOKEN} for a token anywhere else; `token = "a"` names the token: the
same name is the same token, another name another one.

`E2E_BLESS=1 pytest tests/e2e/test_folders.py` writes the expected mails anew; read the difference before committing.
"""

from __future__ import annotations

import email
import email.policy
import os
import re
import smtplib
import socket
import struct
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relay_mta import shipped
from relay_mta.core.block import BlockTemplates
from tests.e2e.process import Relay, free_port, without_received
from tests.e2e.upstream import Rule, ScriptedUpstream, Transaction

HERE = Path(__file__).parent
FOLDERS = sorted(path for path in HERE.iterdir() if re.match(r"\d\d-", path.name))
BLESS = bool(os.environ.get("E2E_BLESS"))
TOKEN = rb"[a-z2-7]{26}"
OWN_LINK = re.compile(rb"https://relay\.example\.jp/r/(" + TOKEN + rb")(?![a-z2-7])")


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8"))


class Story:
    """One folder being played."""

    def __init__(self, folder: Path, place: Path) -> None:
        self.folder = folder
        self.session = read(folder / "session.toml")
        self.upstream = ScriptedUpstream([Rule(**rule) for rule in self.session.get("upstream", [])], kill=self._kill)
        away = self.session.get("upstream_away", False)
        config = (folder / "config.toml").read_text("utf-8")
        self.relay = Relay(place, config, upstream_port=free_port() if away else self.upstream.port)

    def play(self) -> None:
        self.relay.start()
        for number, attempt in enumerate(self.session["attempt"], 1):
            match attempt.get("before"):
                case "restart":
                    assert self.relay.stop() == 0
                    self.relay.start()
                case "start":
                    self.relay.start()
            time.sleep(attempt.get("pause", 0))
            self.send(attempt, f"attempt {number}")
        if self.relay.process is not None and self.relay.process.poll() is None:
            assert self.relay.stop() == 0, self.relay.said()

    def _kill(self) -> None:
        self.relay.kill()

    def send(self, attempt: dict[str, Any], what: str) -> None:
        raw = (self.folder / attempt.get("mail_file", "mail.eml")).read_bytes()
        client = smtplib.SMTP("127.0.0.1", self.relay.smtp_port, "client.example", timeout=60)
        try:
            self._dialog(client, attempt, raw, what)
        except (smtplib.SMTPServerDisconnected, ConnectionError):
            assert attempt.get("reply", 250) == 0, f"{what}: the connection was lost\n{self.relay.said()}"
        finally:
            client.close()

    def _dialog(self, client: smtplib.SMTP, attempt: dict[str, Any], raw: bytes, what: str) -> None:
        code, text = client.ehlo()
        assert code == 250, text
        params = attempt.get("mail_params", "")
        code, text = client.docmd(f"MAIL FROM:<{attempt['reverse_path']}> {params}".rstrip())
        assert code == attempt.get("mail", 250), f"{what}: MAIL: {code} {text!r}\n{self.relay.said()}"
        if code != 250:
            return
        wanted = attempt.get("rcpt", [250] * len(attempt["recipients"]))
        for recipient, expected in zip(attempt["recipients"], wanted, strict=True):
            given = recipient if isinstance(recipient, dict) else {"path": recipient}
            code, text = client.docmd(f"RCPT TO:<{given['path']}> {given.get('params', '')}".rstrip())
            assert code == expected, f"{what}: RCPT {given['path']}: {code} {text!r}"
        if 250 not in wanted:
            return
        if attempt.get("vanish"):
            self._vanish(client, raw)
            return
        code, text = client.data(raw)
        assert code == attempt.get("reply", 250), f"{what}: {code} {text!r}\n{self.relay.said()}"
        assert attempt.get("reply_has", "") in text.decode(), f"{what}: {code} {text!r}"
        client.quit()

    def _vanish(self, client: smtplib.SMTP, raw: bytes) -> None:
        """The whole mail, the dot, and then a reset instead of waiting for the reply."""
        assert client.docmd("DATA")[0] == 354
        client.send(re.sub(rb"(?m)^\.", b"..", raw) + b".\r\n")
        assert client.sock is not None
        self._wait(lambda: len(self.upstream.deliveries) >= 1)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        waits = self.session.get("deliveries_after_vanishing", 1)
        self._wait(lambda: len(self.upstream.deliveries) >= waits)

    @staticmethod
    def _wait(until: Callable[[], bool], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def story(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Story]:
    played = Story(request.param, tmp_path)
    yield played
    played.upstream.stop()
    if played.relay.process is not None and played.relay.process.poll() is None:
        played.relay.kill()


@pytest.mark.parametrize("story", FOLDERS, ids=[path.name for path in FOLDERS], indirect=True)
def test_story(story: Story) -> None:
    story.play()
    said = story.relay.said()
    assert "Traceback" not in said, said
    tokens = check_deliveries(story)
    check_ledger(story, said)
    check_silence(story, said, tokens)


def check_deliveries(story: Story) -> list[bytes]:
    """Every mail that left, and the tokens in them."""
    expected = read(story.folder / "expected" / "deliveries.toml").get("delivery", [])
    got = story.upstream.deliveries
    assert [(d.reverse_path, d.recipients) for d in got] == [(d["reverse_path"], d["recipients"]) for d in expected], (
        story.relay.said()
    )
    names: dict[str, bytes] = {}
    for delivery, wanted in zip(got, expected, strict=True):
        check_mail(story, delivery, wanted, names)
    assert len(set(names.values())) == len(names), "two candidates share a token"
    return list(names.values())


def check_mail(story: Story, delivery: Transaction, wanted: dict[str, Any], names: dict[str, bytes]) -> None:
    if wanted["mail"] == "dsn":
        check_dsn(delivery.raw, wanted["reports"])
        return
    raw = without_received(delivery.raw)
    source = (story.folder / wanted.get("mail_file", "mail.eml")).read_bytes()
    if wanted["mail"] == "same":
        assert raw == source
        return
    path = story.folder / "expected" / wanted["mail"]
    (token,) = set(OWN_LINK.findall(raw))
    shown = raw.replace(rendered_block(story, token), b"{BLOCK}").replace(token, b"{TOKEN}")
    if BLESS:
        path.write_bytes(shown)
    assert shown == path.read_bytes()
    assert names.setdefault(wanted["token"], token) == token, "the same candidate has two tokens"
    if b"multipart/" not in source.lower():
        assert is_one_insertion(source, raw), "more than one block was put in"


def rendered_block(story: Story, token: bytes) -> bytes:
    """The text block as the shipped template writes it for this token, without the blank lines around it."""
    company = tomllib.loads(story.relay.config.read_text("utf-8"))["company"][0]
    link, stop = (f"https://relay.example.jp/{path}/{token.decode()}" for path in ("r", "stop"))
    templates = BlockTemplates.parse(shipped.templates())
    block = templates.render("ja", company=company["name"], agency=company["agency"]["name"], link=link, opt_out=stop)
    return block.text.strip("\n").replace("\n", "\r\n").encode()


def is_one_insertion(before: bytes, after: bytes) -> bool:
    """Whether `after` is `before` with one stretch put in."""
    kept = next((i for i, (x, y) in enumerate(zip(before, after, strict=False)) if x != y), len(before))
    return len(after) > len(before) and after.endswith(before[kept:])


def check_dsn(raw: bytes, reports: list[str]) -> None:
    """RFC 3464: a report whose machine-readable part names each refused recipient once, and nobody else."""
    report = email.message_from_bytes(raw, policy=email.policy.default)
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"
    assert report["Auto-Submitted"] == "auto-replied"
    parts = list(report.iter_parts())
    assert parts[0].get_content_type() == "text/plain"
    status = parts[1]
    assert status.get_content_type() == "message/delivery-status"
    blocks = [block for block in status.get_payload() if block["Final-Recipient"]]
    assert [block["Final-Recipient"].partition(";")[2].strip() for block in blocks] == reports
    assert {block["Action"] for block in blocks} == {"failed"}
    assert all(re.match(r"5\.\d+\.\d+$", block["Status"]) for block in blocks)


def check_ledger(story: Story, said: str) -> None:
    wanted = read(story.folder / "ledger.toml").get("entry", [])
    got = story.relay.entries()
    assert [entry["kind"] for entry in got] == [entry["kind"] for entry in wanted], said
    # `relay` in ledger.toml only names which entries are about the same relayed candidate.
    names: dict[object, object] = {}
    for entry, want in zip(got, wanted, strict=True):
        assert entry["company"] == want.get("company", "acme")
        assert names.setdefault(entry["relay"], want["relay"]) == want["relay"]
    assert len(set(names.values())) == len(names)


def check_silence(story: Story, said: str, tokens: list[bytes]) -> None:
    """No log line carries an address, a subject or a token, whatever happened."""
    for attempt in story.session["attempt"]:
        for recipient in attempt["recipients"]:
            path = recipient["path"] if isinstance(recipient, dict) else recipient
            assert path not in said
        if attempt["reverse_path"]:
            assert attempt["reverse_path"] not in said
    for token in tokens:
        assert token.decode() not in said
