"""Networks from which strangers send too: a company's mail proves whose it is, and nobody else's goes through.

What counts is what reaches the upstream and the ledger, and that the proof reaches nobody.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay_mta.core import mime
from relay_mta.core.errors import RelayError
from tests.houses import Houses, firm, houses, kept
from tests.smtp.peers import DROP, OK, ScriptedUpstream
from tests.test_relay import BOSS, HANAKO, HARMLESS, HR, LINK, TARO, mail, received_cut

SECRET = "s3cret-9b2f"
PROOF = f"X-Acme-Relay: {SECRET}"
UNPROVEN = b"550 5.7.1 The mail does not prove that it comes from a company that may send through this server\r\n"


@asynccontextmanager
async def tenant(
    place: Path, script: dict[bytes, Any] | None = None, **more: Any
) -> AsyncIterator[tuple[Houses, ScriptedUpstream]]:
    proof = ("x-acme-relay", kept(place, "proof", SECRET + "\n"))
    async with ScriptedUpstream(script) as upstream:
        more = {"networks": (), "shared": ("127.0.0.0/8",), **more}
        async with houses(place, firm(upstream, proof=proof, **more)) as relay:
            yield relay, upstream
            assert SECRET not in relay.log.getvalue()
            assert all(SECRET.encode() not in sent.wire for sent in upstream.mails)


def by(author: str, *fields: str) -> bytes:
    return mail(*fields).replace(f"From: {HR}".encode(), author.encode())


# --- strangers ------------------------------------------------------------------------------------------------------

OTHERS: dict[str, tuple[bytes, str]] = {
    "no field": (mail(), HR),
    "a wrong value": (mail("X-Acme-Relay: guess"), HR),
    "an empty value": (mail("X-Acme-Relay:"), HR),
    "a part of the value": (mail(f"X-Acme-Relay: {SECRET[:-1]}"), HR),
    "more than the value": (mail(f"X-Acme-Relay: {SECRET} {SECRET}"), HR),
    "another case of the value": (mail(f"X-Acme-Relay: {SECRET.upper()}"), HR),
    "a folded value": (mail(f"X-Acme-Relay: {SECRET[:4]}\r\n {SECRET[4:]}"), HR),
    "another field": (mail(f"X-Acme-Relay-2: {SECRET}"), HR),
    "the value in the text": (mail(body=f"{PROOF}\r\n"), HR),
    "a foreign From": (by("From: mallory@evil.example", PROOF), HR),
    "a foreign From behind our name": (by(f'From: "{HR}" <mallory@evil.example>', PROOF), HR),
    "a foreign From behind a comment": (by(f"From: mallory@evil.example ({HR})", PROOF), HR),
    "two authors, one foreign": (by(f"From: {HR}, mallory@evil.example", PROOF), HR),
    "two From": (by(f"From: {HR}\r\nFrom: {HR}", PROOF), HR),
    "no From": (by("X-From: nobody", PROOF), HR),
    "an empty From": (by("From:", PROOF), HR),
    "a group for From": (by("From: undisclosed:;", PROOF), HR),
    "a From that looks like ours": (by("From: hr@acme.example.jp.evil.example", PROOF), HR),
    "a foreign reverse-path": (mail(PROOF), "mallory@evil.example"),
    "a null reverse-path without the field": (mail(), ""),
    "a null reverse-path with a foreign From": (by("From: mallory@evil.example", PROOF), ""),
}


@pytest.mark.parametrize("what", OTHERS)
async def test_what_does_not_prove_itself_goes_nowhere(tmp_path: Path, what: str) -> None:
    raw, sender = OTHERS[what]
    async with tenant(tmp_path) as (relay, upstream):
        assert await relay.send(raw, TARO, BOSS, sender=sender) == UNPROVEN
        assert upstream.mails == [] and b"DATA" not in upstream.commands
        assert await relay.kinds() == [] and not relay.app.ledger._claimed
        (line,) = relay.lines("outcome")
        assert "reason=not-proven" in line and "code=550" in line and "delivered=0" in line
        assert await relay.send(mail(PROOF), sender=HR) == OK, "the session is in step"


async def test_no_mail_of_strangers_goes_in_any_mode(tmp_path: Path) -> None:
    for mode in ("off", "observe", "relay"):
        async with tenant(tmp_path, company={"mode": mode}) as (relay, upstream):
            assert await relay.send(HARMLESS, sender=HR) == UNPROVEN
            assert upstream.mails == []


async def test_the_proof_is_asked_for_where_strangers_are_and_nowhere_else(tmp_path: Path) -> None:
    async with tenant(tmp_path, networks=("127.0.0.1/32",)) as (relay, upstream):
        assert await relay.send(HARMLESS, sender=HR, source="127.0.0.2") == UNPROVEN
        assert await relay.send(HARMLESS, sender=HR, source="127.0.0.1") == OK
        assert len(upstream.mails) == 1


@pytest.mark.parametrize("blank", ["", "\n", "  \r\n", "\t"])
async def test_a_blank_proof_is_no_proof_and_stops_the_start(tmp_path: Path, blank: str) -> None:
    """With it, an empty field would prove everything."""
    async with ScriptedUpstream() as upstream:
        acme = firm(upstream, shared=("127.0.0.0/8",), proof=("x-acme-relay", kept(tmp_path, "proof", blank)))
        with pytest.raises(RelayError, match="proof: the secret is missing or empty"):
            async with houses(tmp_path, acme):
                pass


# --- the company's own ----------------------------------------------------------------------------------------------

PROVEN = {
    "as it is": PROOF,
    "in any case": f"x-aCME-rELAY: {SECRET}",
    "with blanks around": f"X-Acme-Relay:\t {SECRET} \t ",
    "folded in front": f"X-Acme-Relay:\r\n  {SECRET}",
    "twice": f"{PROOF}\r\n{PROOF}",
    "beside a guess": f"X-Acme-Relay: guess\r\n{PROOF}",
    "with a blank before the colon": f"X-Acme-Relay : {SECRET}",
}


@pytest.mark.parametrize("how", PROVEN)
@pytest.mark.parametrize("text", ["rejection", "harmless"])
async def test_what_proves_itself_passes_and_the_proof_is_gone(tmp_path: Path, how: str, text: str) -> None:
    plain = mail() if text == "rejection" else HARMLESS
    raw = plain.replace(b"Subject:", PROVEN[how].encode() + b"\r\nSubject:")
    async with tenant(tmp_path) as (relay, upstream):
        assert await relay.send(raw, sender=HR) == OK
        _, rest = received_cut(upstream.mails[0].raw)
        assert b"x-acme-relay" not in rest.lower()
        spliced = text == "rejection" and "before the colon" not in how  # on that mail clients differ
        assert spliced or rest == plain
        assert bool(LINK.search(rest)) is spliced


async def test_the_proof_is_gone_from_every_copy(tmp_path: Path) -> None:
    async with tenant(tmp_path) as (relay, upstream):
        raw = mail(PROOF, to="undisclosed-recipients:;")
        assert await relay.send(raw, TARO, HANAKO, BOSS, sender=HR) == OK
        assert len(upstream.mails) == 3
        assert not any(b"x-acme-relay" in sent.raw.lower() for sent in upstream.mails)
        assert await relay.kinds() == ["held", "held", "relayed", "relayed"]


MAILS: dict[str, bytes] = {
    "exempt": mail(PROOF, "DKIM-Signature: v=1; a=rsa-sha256; d=acme.example.jp; s=a; h=from; b=x"),
    "switched off": mail(PROOF, "X-Career-Relay: off"),
    "mended": mail(PROOF, body="a\nb\rc\r\n"),
    "ambiguous": mail(PROOF, "no field at all"),
    "encrypted": mail(PROOF).replace(b"text/plain; charset=utf-8", b"application/pkcs7-mime"),
    "first of all fields": PROOF.encode() + b"\r\n" + mail(),
    "behind mbox lines": b"From hr@acme.example.jp Mon Nov  2 10:00:00 2026\r\n" + PROOF.encode() + b"\r\n" + mail(),
}


@pytest.mark.parametrize("mode", ["off", "observe", "relay"])
@pytest.mark.parametrize("what", MAILS)
async def test_the_proof_is_gone_whatever_becomes_of_the_mail(tmp_path: Path, what: str, mode: str) -> None:
    async with tenant(tmp_path, company={"mode": mode}) as (relay, upstream):
        assert await relay.send(MAILS[what], sender=HR) == OK
        assert b"x-acme-relay" not in upstream.mails[0].raw.lower()


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("what", ["limit:header", "limit:fields"])
async def test_the_proof_is_gone_from_a_header_that_was_not_read_to_its_end(
    tmp_path: Path, what: str, again: bool
) -> None:
    filler = [f"X-Filler: {'x' * 60}"] * (mime.MAX_HEADER // 72 + 1)
    fields = filler if what == "limit:header" else ["X: y"] * mime.MAX_FIELDS
    raw = mail(PROOF, *fields, *([PROOF] if again else []))
    async with tenant(tmp_path) as (relay, upstream):
        assert await relay.send(raw, sender=HR) == OK
        assert f"reason={what}" in relay.lines("outcome")[0]
        assert received_cut(upstream.mails[0].raw)[1] == mail(*fields)


async def test_the_proof_is_gone_when_a_network_of_the_companys_own_needs_none(tmp_path: Path) -> None:
    async with tenant(tmp_path, networks=("127.0.0.1/32",)) as (relay, upstream):
        assert await relay.send(mail(PROOF), sender=HR) == OK
        assert b"x-acme-relay" not in upstream.mails[0].raw.lower()


async def test_a_null_reverse_path_passes_with_proof_and_own_author(tmp_path: Path) -> None:
    async with tenant(tmp_path) as (relay, upstream):
        assert await relay.send(mail(PROOF, "Auto-Submitted: auto-replied"), sender="") == OK
        assert len(upstream.accepted) == 1


async def test_the_report_to_the_sender_quotes_neither_the_proof_nor_the_switch(tmp_path: Path) -> None:
    script = {b".": [OK, b"550 5.1.1 gone\r\n", OK]}
    async with tenant(tmp_path, script) as (relay, upstream):
        raw = mail(
            PROOF, "X-Career-Relay: on", f"x-acme-relay:\r\n {SECRET}", "X-Kept: yes", to="undisclosed-recipients:;"
        )
        assert await relay.send(raw, TARO, BOSS, sender=HR) == OK
        (report,) = (sent.raw for sent in upstream.accepted if sent.mail == b"MAIL FROM:<>")
        assert b"X-Kept: yes\r\n" in report and b"Subject: test\r\n" in report
        assert not re.search(rb"(?i)x-acme-relay|x-career-relay", report)


async def test_a_retry_proves_itself_again(tmp_path: Path) -> None:
    async with tenant(tmp_path, {b".": [OK, DROP, OK]}) as (relay, upstream):
        raw = mail(PROOF, to="undisclosed-recipients:;")
        assert (await relay.send(raw, TARO, HANAKO, sender=HR)).startswith(b"451")
        assert await relay.send(raw.replace(PROOF.encode(), b"X-Acme-Relay: no"), TARO, HANAKO, sender=HR) == UNPROVEN
        assert await relay.send(raw, TARO, HANAKO, sender=HR) == OK
        assert [path for sent in upstream.accepted for path in sent.rcpts] == [
            f"RCPT TO:<{path}>".encode() for path in (TARO, HANAKO)
        ]


async def test_proven_and_unproven_mails_side_by_side(tmp_path: Path) -> None:
    async with tenant(tmp_path) as (relay, upstream):
        mails = [mail(f"X-Number: {i}", *([PROOF] if i % 2 else [])) for i in range(12)]
        answers = await asyncio.gather(*(relay.send(raw, sender=HR) for raw in mails))
        assert answers == [OK if i % 2 else UNPROVEN for i in range(12)]
        assert len(upstream.accepted) == 6
