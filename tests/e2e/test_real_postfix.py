"""The real chain: swaks or msmtp → relay-mta serve → a real Postfix → Maildir.

Postfix runs as an instance of its own: own folders, own port on loopback, nothing of the machine's Postfix is touched.
"""

from __future__ import annotations

import email
import email.policy
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.e2e.process import ROOT, Relay, free_port, without_received

pytestmark = [pytest.mark.real("postfix"), pytest.mark.real("swaks"), pytest.mark.real("msmtp")]

SAMPLES = ROOT / "relay_mta" / "samples"
POSTFIX = shutil.which("postfix", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or "postfix"
LINK = re.compile(r"https://relay\.example\.jp/r/([a-z2-7]{26})(?![a-z2-7])")

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {place}/queue
data_directory = {place}/data
maillog_file = {place}/log/postfix.log
maillog_file_prefixes = {place}
mail_owner = postfix
setgid_group = postdrop
myhostname = outbound.example.jp
mydestination =
alias_maps =
alias_database =
inet_protocols = ipv4
inet_interfaces = loopback-only
mynetworks = 127.0.0.0/8
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject
virtual_mailbox_domains = static:all
virtual_mailbox_maps = static:all/
virtual_mailbox_base = {place}/mail
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
virtual_transport = virtual
"""

# Debian's services with chroot switched off: the instance lives outside /var/spool.
MASTER_CF = """\
{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """A Postfix instance under one folder; the Maildir `mail/all/` there takes everything."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.port = free_port()
        owner = pwd.getpwnam("nobody")
        conf = place / "conf"
        for name in ("conf", "queue", "data", "mail", "log"):
            (place / name).mkdir(mode=0o755)
        shutil.chown(place / "data", "postfix")
        shutil.chown(place / "mail", owner.pw_uid, owner.pw_gid)
        (conf / "main.cf").write_text(MAIN_CF.format(place=place, uid=owner.pw_uid, gid=owner.pw_gid))
        (conf / "master.cf").write_text(MASTER_CF.format(port=f"127.0.0.1:{self.port}"))
        for name in ("dynamicmaps.cf", "postfix-files"):
            shutil.copy(Path("/etc/postfix") / name, conf / name)

    def run(self, command: str) -> None:
        done = subprocess.run(
            [POSTFIX, "-c", str(self.place / "conf"), command], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"postfix {command}: {done.stdout}{done.stderr}{self.said()}"

    def said(self) -> str:
        log = self.place / "log" / "postfix.log"
        return log.read_text("utf-8", "replace") if log.exists() else ""

    def start(self) -> None:
        self.run("start")
        deadline = time.monotonic() + 30
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
                    client.settimeout(5)
                    if client.recv(3) == b"220":
                        return
            except OSError:
                pass
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)

    def received(self, address: str) -> bytes:
        """The one mail of an address, as the relay handed it over: CRLF, without what Postfix put in front."""
        delivered_to = f"\nDelivered-To: {address}\n".encode()
        deadline = time.monotonic() + 30
        while not (found := [mail for mail in self._maildir() if delivered_to in mail]):
            assert time.monotonic() < deadline, f"no mail for {address}\n{self.said()}"
            time.sleep(0.1)
        assert len(found) == 1, f"{len(found)} mails for {address}"
        return without_postfix(found[0].replace(b"\n", b"\r\n"))

    def _maildir(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.place / "mail" / "all" / "new").glob("*")]

    def empty(self) -> None:
        shutil.rmtree(self.place / "mail" / "all", ignore_errors=True)


_FOLDS = rb"(?:[ \t][^\r\n]*\r\n)*"
_OWN_FIELD = re.compile(
    rb"\A(?:(?:Return-Path|X-Original-To|Delivered-To):[^\r\n]*\r\n"
    rb"|Received: from [^\r\n]*\r\n" + _FOLDS + rb"?[ \t]+by outbound\.example\.jp [^\r\n]*\r\n" + _FOLDS + rb")"
)


def without_postfix(mail: bytes) -> bytes:
    """The mail without the fields that Postfix itself put in front of it."""
    while found := _OWN_FIELD.match(mail):
        mail = mail[found.end() :]
    return mail


@pytest.fixture(scope="module")
def postfix() -> Iterator[Postfix]:
    # Not pytest's tmp_path: Postfix's own users have to be able to walk into it.
    place = Path(tempfile.mkdtemp(prefix="relay-mta-postfix-"))
    place.chmod(0o755)
    server = Postfix(place)
    try:
        server.start()
        yield server
    finally:
        server.run("stop")
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def relay(make_relay: Callable[..., Relay], postfix: Postfix) -> Relay:
    postfix.empty()
    made = make_relay(upstream_port=postfix.port)
    made.start()
    return made


def send(client: str, relay: Relay, path: Path, recipients: list[str]) -> None:
    """Send a mail's file with a real client."""
    sender = "saiyo@acme.example.jp"
    if client == "swaks":
        data = relay.folder / "swaks.eml"
        data.write_bytes(path.read_bytes().removesuffix(b"\r\n"))  # swaks ends the last line itself
        command = [
            *("swaks", "--server", "127.0.0.1", "--port", str(relay.smtp_port), "--ehlo", "client.example"),
            *("--from", sender, "--to", ",".join(recipients), "--data", f"@{data}", "--suppress-data", "--no-hints"),
        ]
        text = None
    else:
        command = [
            *("msmtp", "--file=/dev/null", "--host=127.0.0.1", f"--port={relay.smtp_port}", "--domain=client.example"),
            *("--timeout=30", f"--from={sender}", "--remove-bcc-headers=off", "--", *recipients),
        ]
        text = path.read_bytes().replace(b"\r\n", b"\n")
    done = subprocess.run(command, input=text, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, f"{done.stdout!r} {done.stderr!r}\n{relay.said()}"


@pytest.mark.parametrize("client", ["swaks", "msmtp"])
@pytest.mark.parametrize("name", ["06-offer-ja", "08-vendor-decline-ja", "11-attachment-ja", "13-invitation-ja"])
def test_an_untouched_mail_is_byte_identical_behind_one_received(
    relay: Relay, postfix: Postfix, client: str, name: str
) -> None:
    path = SAMPLES / f"{name}.eml"
    address = "someone@mail.example.net"
    send(client, relay, path, [address])
    mail = postfix.received(address)
    assert without_received(mail) == path.read_bytes()
    assert relay.entries() == []


@pytest.mark.parametrize("client", ["swaks", "msmtp"])
@pytest.mark.parametrize(
    "name",
    ["02-rejection-ja-outlook", "03-rejection-ja-gmail", "04-rejection-en-ats-html", "12-rejection-ja-attachment"],
)
def test_a_rejection_has_the_link_and_is_otherwise_identical(
    relay: Relay, postfix: Postfix, client: str, name: str
) -> None:
    path = SAMPLES / f"{name}.eml"
    original = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert isinstance(original, EmailMessage)
    address = str(original["To"].addresses[0].addr_spec)
    colleague = "kimura@acme.example.jp"
    send(client, relay, path, [address, colleague])

    plain = postfix.received(colleague)
    assert without_received(plain) == path.read_bytes()
    mail = postfix.received(address)
    raw = without_received(mail)
    assert header(raw) == header(path.read_bytes())
    arrived = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(arrived, EmailMessage)

    tokens = set()
    parts = list(zip(original.walk(), arrived.walk(), strict=True))
    for before, after in parts:
        assert before.items() == after.items()  # each part's own header, too
        if before.is_multipart():
            continue
        if before.get_content_maintype() == "text":
            was, now = before.get_content(), after.get_content()
            found = LINK.findall(now)
            assert found and not LINK.search(was)
            tokens |= set(found)
            assert is_one_insertion(was, now), f"{before.get_content_type()}: more than one block was put in"
        else:
            assert after.get_payload() == before.get_payload()
    (token,) = tokens
    status, page = relay.get(f"/r/{token}")
    assert status == 200
    assert "株式会社アクメ" in page and "サンプル人材紹介株式会社" in page
    assert relay.get(f"/r/{token[:-1]}{'a' if token[-1] != 'a' else 'b'}")[0] == 404
    assert relay.stop() == 0
    assert [entry["kind"] for entry in relay.entries()] == ["held", "relayed"]


def header(raw: bytes) -> bytes:
    return raw[: raw.index(b"\r\n\r\n")]


def is_one_insertion(before: str, after: str) -> bool:
    """Whether `after` is `before` with one stretch put in."""
    kept = next((i for i, (x, y) in enumerate(zip(before, after, strict=False)) if x != y), len(before))
    return len(after) > len(before) and after.endswith(before[kept:])
