"""One transaction's effects and their order, in a whole `App` with a real ledger, against a scripted upstream."""

from __future__ import annotations

import asyncio
import io
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest

from relay_mta import maillog
from relay_mta.app import App
from relay_mta.config import CompanyConfig, Config, DkimKey, ListenerConfig, UpstreamConfig, WebConfig
from relay_mta.core.company import Agency, Company
from relay_mta.core.errors import LedgerError, SpliceError
from relay_mta.core.ip import ClientNetwork
from relay_mta.core.rules import RuleSet
from relay_mta.relay import JUDGING_SECONDS
from tests.rulesets import parsed_once
from tests.smtp.clients import Dialog
from tests.smtp.fronts import until
from tests.smtp.peers import DROP, OK, STALL, ScriptedUpstream
from tests.test_signing import Zone

HR, TARO, HANAKO, BOSS = "hr@acme.example.jp", "taro@mail.example", "hanako@mail.example", "boss@acme.example.jp"
LINK = re.compile(rb"https://relay\.example\.jp/r/([a-z2-7]{26})\b")

BODY = (
    "山田太郎 様\r\n\r\n先日は当社の採用選考にご応募いただき、ありがとうございました。\r\n"
    "慎重に選考を進めました結果、誠に残念ながら、今回は採用を見送らせていただくことになりました。\r\n"
    "末筆ながら、山田様の今後のご活躍をお祈り申し上げます。\r\n\r\n株式会社アクメ 採用担当\r\n"
)


def mail(*fields: str, body: str = BODY, to: str = TARO) -> bytes:
    head = [
        f"From: {HR}",
        f"To: {to}",
        "Subject: test",
        "Message-ID: <1@acme.example.jp>",
        *fields,
        "MIME-Version: 1.0",
    ]
    head += ["Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit"]
    return "\r\n".join([*head, "", body]).encode()


HARMLESS = mail(body="山田様\r\n\r\n来週の打ち合わせの件、承知しました。\r\n.点で始まる行\r\n")


class House:
    """A running relay with its upstream, and a way to send through it."""

    def __init__(self, app: App, upstream: ScriptedUpstream, log: io.StringIO) -> None:
        self.app = app
        self.upstream = upstream
        self.log = log

    async def send(self, raw: bytes, *recipients: str, sender: str = HR) -> bytes:
        """One mail by a client of its own; the reply to the final dot."""
        async with Dialog(self.app.smtp_ports[0]) as client:
            await client.ehlo()
            assert (await client.say(f"MAIL FROM:<{sender}>".encode())).startswith(b"250")
            for path in recipients or (TARO,):
                assert (await client.say(f"RCPT TO:<{path}>".encode())).startswith(b"250")
            answer = await client.say(b"DATA")
            if not answer.startswith(b"354"):
                return answer
            await client.send(re.sub(rb"(?m)^\.", b"..", raw) + b".\r\n")
            answer = await client.reply()
            await client.say(b"QUIT")
            return answer

    async def kinds(self) -> list[str]:
        return [entry.kind for entry in await self.app.ledger.entries()]

    def outcomes(self) -> list[str]:
        return [line for line in self.log.getvalue().splitlines() if "event=outcome" in line]


@asynccontextmanager
async def house(
    place: Path,
    script: dict[bytes, Any] | None = None,
    *,
    company: dict[str, Any] | None = None,
    dkim_key: DkimKey | None = None,
    **changes: Any,
) -> AsyncIterator[House]:
    log = io.StringIO()
    maillog.configure(log)
    async with ScriptedUpstream(script) as upstream:
        values: dict[str, Any] = {
            "id": "acme",
            "name": "株式会社アクメ",
            "domains": ("acme.example.jp",),
            "agency": Agency("サンプル人材紹介株式会社", "https://agency.example/register"),
            "mode": "relay",
        }
        acme = Company(**{**values, **(company or {})})
        config = Config(
            hostname="relay.example.jp",
            data_dir=place / "var",
            ledger="tinydb:",
            listeners=(ListenerConfig("127.0.0.1", 0),),
            web=WebConfig("127.0.0.1", 0, "https://relay.example.jp"),
            rules_directory=None,
            drain_seconds=1.0,
            companies=(
                CompanyConfig(
                    acme,
                    (ClientNetwork(ip_network("127.0.0.0/8"), shared=False),),
                    UpstreamConfig("127.0.0.1", upstream.port, "none"),
                    dkim_key=dkim_key,
                ),
            ),
            **changes,
        )
        app = App(config)
        with mock.patch.object(RuleSet, "parse", parsed_once):
            await app.start()
        try:
            yield House(app, upstream, log)
        finally:
            await app.stop()


def received_cut(raw: bytes) -> tuple[bytes, bytes]:
    """Our own field at the top, and the rest."""
    found = re.match(rb"Received: [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", raw)
    assert found is not None
    return found[0], raw[found.end() :]


async def test_an_untouched_mail_is_the_same_bytes_behind_one_received(tmp_path: Path) -> None:
    async with house(tmp_path) as relay:
        assert await relay.send(HARMLESS) == OK
        field, rest = received_cut(relay.upstream.mails[0].raw)
        assert rest == HARMLESS
        assert b"for " not in field
        assert TARO.encode() not in field
        assert b"by relay.example.jp with ESMTP id " in field
        assert await relay.kinds() == []


async def test_a_rejection_carries_a_link_that_opens(tmp_path: Path) -> None:
    async with house(tmp_path) as relay:
        assert await relay.send(mail()) == OK
        _, rest = received_cut(relay.upstream.mails[0].raw)
        (token,) = set(LINK.findall(rest))
        assert await relay.kinds() == ["held", "relayed"]
        assert await relay.app.ledger.by_token(token.decode()) is not None
        before, _, after = BODY.encode().partition("株式会社アクメ 採用担当".encode())
        assert before.rstrip() in rest
        assert after in rest


async def test_the_switch_is_removed_and_obeyed(tmp_path: Path) -> None:
    async with house(tmp_path) as relay:
        await relay.send(mail("X-Career-Relay: off"))
        assert received_cut(relay.upstream.mails[0].raw)[1] == mail()
        assert await relay.kinds() == []


async def test_what_other_mails_compute_is_not_this_mails_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of time covers reading and judging alone: a mail that waits for the ledger while the thread computes
    for others is not exempt for it."""
    async with house(tmp_path) as relay:
        real = relay.app.ledger.pending

        async def busy(*arguments: Any) -> Any:
            until = time.thread_time() + 3 * JUDGING_SECONDS
            while time.thread_time() < until:
                pass
            return await real(*arguments)

        monkeypatch.setattr(relay.app.ledger, "pending", busy)
        assert await relay.send(mail()) == OK
        assert "disposition=relay" in relay.outcomes()[0]


async def test_a_mail_that_takes_too_long_goes_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay_mta.relay.JUDGING_SECONDS", -1.0)
    async with house(tmp_path) as relay:
        assert await relay.send(mail()) == OK
        assert received_cut(relay.upstream.mails[0].raw)[1] == mail()
        assert "disposition=exempt reason=limit:time" in relay.outcomes()[0]


async def test_a_rejection_that_is_exempt_is_a_warning_and_is_counted(tmp_path: Path) -> None:
    async with house(tmp_path) as relay:
        assert await relay.send(mail("DKIM-Signature: v=1; a=rsa-sha256; d=acme.example.jp; s=a; h=from; b=x")) == OK
        assert re.search(r'reason="dkim-own \(rejection, score [0-9.]+\)"', relay.outcomes()[0])
        (line,) = [line for line in relay.log.getvalue().splitlines() if "event=rejection-exempt" in line]
        assert "level=warning" in line and "reason=dkim-own" in line and TARO not in line
        assert relay.app.rulebook.status()["missed"] == {"dkim-own": 1}
        assert await relay.send(HARMLESS) == OK
        assert relay.app.rulebook.status()["missed"] == {"dkim-own": 1}


@pytest.mark.parametrize("mode", ["observe", "off"])
async def test_only_mode_relay_changes_a_mail(tmp_path: Path, mode: str) -> None:
    async with house(tmp_path, company={"mode": mode}) as relay:
        await relay.send(mail())
        assert received_cut(relay.upstream.mails[0].raw)[1] == mail()
        assert await relay.kinds() == []


async def test_a_split_gives_each_candidate_a_link_and_colleagues_the_original(tmp_path: Path) -> None:
    async with house(tmp_path) as relay:
        raw = mail(to="undisclosed-recipients:;")
        assert await relay.send(raw, TARO, HANAKO, BOSS) == OK
        first, second, last = relay.upstream.mails
        assert [m.rcpts for m in relay.upstream.mails] == [
            [f"RCPT TO:<{path}>".encode()] for path in (TARO, HANAKO, BOSS)
        ]
        assert set(LINK.findall(first.raw)) != set(LINK.findall(second.raw))
        assert received_cut(last.raw)[1] == raw
        assert await relay.kinds() == ["held", "held", "relayed", "relayed"]


async def test_a_resend_with_another_date_gets_the_same_link(tmp_path: Path) -> None:
    async with house(tmp_path) as relay:
        await relay.send(mail("Date: Mon, 16 Nov 2026 10:00:00 +0900"))
        await relay.send(mail("Date: Tue, 17 Nov 2026 10:00:00 +0900"))
        tokens = {token for m in relay.upstream.mails for token in LINK.findall(m.raw)}
        assert len(tokens) == 1


async def test_each_copy_is_signed_again(tmp_path: Path) -> None:
    zone = Zone(tmp_path)
    zone.signer("acme.example.jp", "relay")
    key = DkimKey(tmp_path / "acme.example.jp.relay.pem", "relay", "acme.example.jp")
    raw = zone.signed(mail(), "acme.example.jp")
    async with house(tmp_path, company={"dkim": "resign"}, dkim_key=key) as relay:
        assert await relay.send(raw, TARO, HANAKO, BOSS) == OK
        await relay.send(zone.signed(HARMLESS, "acme.example.jp"))
        taro, hanako, boss, harmless = (sent.raw for sent in relay.upstream.mails)
        for spliced in (taro, hanako):
            assert LINK.search(spliced) and spliced.lower().count(b"dkim-signature:") == 1 and b"s=relay;" in spliced
        for untouched in (boss, harmless):
            assert not LINK.search(untouched) and b"s=s1;" in untouched
        assert [zone.verified(sent.raw) for sent in relay.upstream.mails] == [[True]] * 4


async def test_who_opted_out_gets_no_link_again(tmp_path: Path) -> None:
    async with house(tmp_path) as relay:
        await relay.send(mail("Date: Mon, 2 Nov 2026 10:00:00 +0900"))
        stop = re.search(rb"https://relay\.example\.jp(/stop/[a-z2-7]{26})\r\n", relay.upstream.mails[-1].raw)
        assert stop is not None
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{relay.app.web_port}") as browser:
            assert (await browser.get(stop[1].decode())).status_code == 200
            again = mail("Date: Tue, 3 Nov 2026 10:00:00 +0900")
            await relay.send(again)
            assert LINK.search(relay.upstream.mails[-1].raw), "looking is not opting out"
            assert (await browser.post(stop[1].decode())).status_code == 200
        raw = mail("Date: Wed, 4 Nov 2026 10:00:00 +0900")
        assert (await relay.send(raw)).startswith(b"250")
        assert relay.upstream.mails[-1].raw.endswith(raw) and not LINK.search(relay.upstream.mails[-1].raw)
        assert (await relay.kinds())[-1] == "suppressed"
        assert "opted-out" in relay.log.getvalue()


async def test_ledger_away_sends_the_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path) as relay:

        async def away(*_: object) -> None:
            raise LedgerError("the ledger is away")

        for name in ("hold", "claim", "pending", "record"):
            monkeypatch.setattr(relay.app.ledger, name, away)
        assert await relay.send(mail(), TARO, BOSS) == OK
        assert [received_cut(m.raw)[1] for m in relay.upstream.mails] == [mail()]
        assert "ledger-trouble" in relay.log.getvalue()


async def test_a_settle_that_fails_does_not_change_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path) as relay:

        async def away(*_: object) -> None:
            raise LedgerError("the ledger is away")

        monkeypatch.setattr(relay.app.ledger, "settle", away)
        assert await relay.send(mail()) == OK
        assert await relay.kinds() == ["held"]  # in doubt, and shown as such


@pytest.mark.parametrize("error", [SpliceError("charset"), RuntimeError("taro@mail.example")])
async def test_a_failed_splice_sends_the_original_and_charges_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("relay_mta.core.copy.plan", fail)
    async with house(tmp_path) as relay:
        assert await relay.send(mail()) == OK
        assert received_cut(relay.upstream.mails[0].raw)[1] == mail()
        assert await relay.kinds() == ["held", "released"]
        assert TARO not in relay.log.getvalue()


async def test_judging_that_raises_sends_the_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("secret subject")

    monkeypatch.setattr("relay_mta.relay.decide", fail)
    async with house(tmp_path) as relay:
        assert await relay.send(mail()) == OK
        assert received_cut(relay.upstream.mails[0].raw)[1] == mail()
        assert "stage=judging" in relay.log.getvalue()
        assert "secret subject" not in relay.log.getvalue()


async def test_a_defect_of_ours_is_451_and_leaves_the_mail_with_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("text of ours")

    async with house(tmp_path) as relay:
        monkeypatch.setattr("relay_mta.relay.index", fail)
        answer = await relay.send(mail())
        assert answer.startswith(b"451 4.3.0")
        assert b"text of ours" not in answer
        assert relay.upstream.mails == []
        monkeypatch.undo()
        assert await relay.send(mail()) == OK


async def test_a_second_attempt_while_the_first_runs_is_451(tmp_path: Path) -> None:
    waiting, go = asyncio.Event(), asyncio.Event()

    async def slow(_: object) -> bytes:
        waiting.set()
        await go.wait()
        return OK

    async with house(tmp_path, {b".": [slow, OK]}) as relay:
        first = asyncio.create_task(relay.send(mail(), TARO, BOSS))
        await waiting.wait()
        assert (await relay.send(mail(), TARO, BOSS)).startswith(b"451 4.3.0")
        go.set()
        assert await first == OK
        assert len(relay.upstream.accepted) == 2


async def test_the_same_harmless_mail_may_pass_twice_at_once(tmp_path: Path) -> None:
    """A server in front of us may send one mail's recipients in several transactions side by side."""
    waiting, go = asyncio.Event(), asyncio.Event()

    async def slow(_: object) -> bytes:
        waiting.set()
        await go.wait()
        return OK

    async with house(tmp_path, {b".": [slow, OK]}) as relay:
        first = asyncio.create_task(relay.send(HARMLESS, TARO))
        await waiting.wait()
        assert await relay.send(HARMLESS, HANAKO) == OK
        go.set()
        assert await first == OK


async def test_a_retry_of_a_half_delivered_split_sends_only_the_rest(tmp_path: Path) -> None:
    async with house(tmp_path, {b".": [OK, DROP, OK, OK]}) as relay:
        assert (await relay.send(mail(), BOSS, TARO)).startswith(b"451")
        assert await relay.send(mail(), BOSS, TARO) == OK
        reached = [m.rcpts[0] for m in relay.upstream.mails]
        assert reached == [f"RCPT TO:<{path}>".encode() for path in (TARO, BOSS, BOSS)]
        assert await relay.kinds() == ["held", "relayed"]
        assert not await relay.app.ledger.pending("x")


async def test_a_record_outlives_a_change_of_the_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, {b".": [DROP, OK, OK]}) as relay:
        assert (await relay.send(mail(), BOSS, TARO)).startswith(b"451")

        def never(*_: object, **__: object) -> None:
            raise AssertionError("an earlier attempt decides, before any judging")

        monkeypatch.setattr("relay_mta.relay.decide", never)
        assert await relay.send(mail(), BOSS, TARO) == OK
        assert await relay.kinds() == ["held", "relayed"]


async def test_the_upstream_that_idled_out_during_the_upload_is_replayed_once(tmp_path: Path) -> None:
    async with house(tmp_path) as relay:
        async with Dialog(relay.app.smtp_ports[0]) as client:
            await client.ehlo()
            await client.say(f"MAIL FROM:<{HR}> BODY=8BITMIME".encode())
            await client.say(f"RCPT TO:<{TARO}> NOTIFY=NEVER".encode())
            await client.say(b"DATA")
            relay.upstream.peers[-1].writer.transport.abort()
            await asyncio.sleep(0.05)
            await client.send(HARMLESS.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            assert await client.reply() == OK
        (sent,) = relay.upstream.mails
        assert sent.mail == f"MAIL FROM:<{HR}> BODY=8BITMIME".encode()
        assert sent.rcpts == [f"RCPT TO:<{TARO}> NOTIFY=NEVER".encode()]


async def test_a_replay_that_is_answered_otherwise_is_451(tmp_path: Path) -> None:
    script = {b"RCPT": [OK, b"550 5.1.1 gone\r\n"]}
    async with house(tmp_path, script) as relay, Dialog(relay.app.smtp_ports[0]) as client:
        await client.ehlo()
        await client.say(f"MAIL FROM:<{HR}>".encode())
        await client.say(f"RCPT TO:<{TARO}>".encode())
        await client.say(b"DATA")
        relay.upstream.peers[-1].writer.transport.abort()
        await asyncio.sleep(0.05)
        await client.send(HARMLESS.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert (await client.reply()).startswith(b"451 4.4.2")


async def test_too_many_hops_are_a_loop(tmp_path: Path) -> None:
    async with house(tmp_path, max_received=3) as relay:
        hops = [f"Received: by h{i}.example; Mon, 16 Nov 2026 10:00:00 +0900" for i in range(3)]
        assert (await relay.send(mail(*hops))).startswith(b"554 5.4.6")
        assert await relay.send(mail(*hops[:2])) == OK
        assert len(relay.upstream.mails) == 1


async def test_a_spent_memory_budget_defers_at_data(tmp_path: Path) -> None:
    async with house(tmp_path, memory_budget=80_000) as relay:
        async with Dialog(relay.app.smtp_ports[0]) as client:
            await client.ehlo()
            await client.say(f"MAIL FROM:<{HR}>".encode())
            await client.say(f"RCPT TO:<{TARO}>".encode())
            assert (await client.say(b"DATA")).startswith(b"354")
            assert (await relay.send(HARMLESS)).startswith(b"452 4.3.1")
            await client.send(HARMLESS.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            assert await client.reply() == OK
        assert await relay.send(HARMLESS) == OK


async def test_the_deadline_sends_what_is_left_unspliced(tmp_path: Path) -> None:
    async def slow(_: object) -> bytes:
        await asyncio.sleep(0.05)
        return OK

    async with house(tmp_path, {b".": slow}, company={"split_deadline": 0.01}) as relay:
        assert await relay.send(mail(to="undisclosed-recipients:;"), TARO, HANAKO, BOSS) == OK
        assert [len(m.rcpts) for m in relay.upstream.mails] == [1, 2]
        assert await relay.kinds() == ["held", "held", "relayed", "released"]


async def test_null_reverse_path_passes(tmp_path: Path) -> None:
    async with house(tmp_path) as relay:
        assert await relay.send(mail(), sender="") == OK
        assert relay.upstream.mails[0].mail == b"MAIL FROM:<>"
        assert await relay.kinds() == []


async def test_a_stranger_is_turned_away(tmp_path: Path) -> None:
    async with house(tmp_path) as relay:
        gate = relay.app._listeners[0]._state.front.gates[0]  # type: ignore[attr-defined]
        gate.networks = (ClientNetwork(ip_network("192.0.2.0/24")),)
        async with Dialog(relay.app.smtp_ports[0]) as client:
            assert client.greeting.startswith(b"554 5.7.1")


async def test_logs_carry_no_address_subject_body_or_token(tmp_path: Path) -> None:
    script = {b".": [b"550 5.7.1 we refuse canary@mail.example canarytext\r\n", OK, DROP]}
    async with house(tmp_path, script) as relay:
        raw = mail("X-Canary: canaryheader", body=BODY + "canarybody\r\n", to="canary@mail.example")
        raw = raw.replace(b"Subject: test", b"Subject: canarysubject")
        await relay.send(raw, "canary@mail.example", sender="canarysender@acme.example.jp")
        await relay.send(raw, "canary@mail.example", sender="canarysender@acme.example.jp")
        said = relay.log.getvalue()
        assert len(relay.outcomes()) == 2
        assert "canary" not in said
        for m in relay.upstream.mails:
            for token in LINK.findall(m.raw):
                assert token.decode() not in said


async def test_what_mail_or_rcpt_are_refused_has_its_line(tmp_path: Path) -> None:
    async with house(tmp_path, {b"RCPT": b"550 5.1.1 nobody@x.example\r\n"}) as relay:
        async with Dialog(relay.app.smtp_ports[0]) as client:
            await client.ehlo()
            await client.say(f"MAIL FROM:<{HR}>".encode())
            await client.say(f"RCPT TO:<{TARO}>".encode())
        said = relay.log.getvalue()
        assert "event=refused" in said
        assert "stage=rcpt code=550 enhanced=5.1.1" in said
        assert "nobody" not in said


async def test_a_refused_copy_and_a_dsn_are_seen_by_the_operator(tmp_path: Path) -> None:
    refusal = b"550 5.7.1 no\r\n"
    async with house(tmp_path, {b".": [refusal, refusal, OK, OK]}) as relay:
        assert await relay.send(mail(), TARO, BOSS) == OK
        said = relay.log.getvalue()
        assert "event=uncharged" in said
        assert "reason=refused" in said
        assert "event=dsn" in said


async def test_a_parameter_that_was_never_offered_gets_the_upstreams_own_answer(tmp_path: Path) -> None:
    async with house(tmp_path, {b"MAIL": b"555 5.5.4 what is that\r\n"}) as relay:
        gate = relay.app._listeners[0]._state.front.gates[0]  # type: ignore[attr-defined]
        gate.learn({})
        async with Dialog(relay.app.smtp_ports[0]) as client:
            assert b"SMTPUTF8" not in await client.ehlo()
            assert (await client.say(f"MAIL FROM:<{HR}> SMTPUTF8".encode())).startswith(b"555 5.5.4")


async def test_a_parameter_that_was_offered_in_error_is_451(tmp_path: Path) -> None:
    async with house(tmp_path) as relay:
        # Let the probe end, whose answer would be learnt.
        await until(lambda: relay.upstream.peers and relay.upstream.peers[0].closed)
        relay.upstream.extensions = ()
        async with Dialog(relay.app.smtp_ports[0]) as client:
            assert b"SMTPUTF8" in await client.ehlo()
            assert (await client.say(f"MAIL FROM:<{HR}> SMTPUTF8".encode())).startswith(b"451 4.5.4")
            assert b"SMTPUTF8" not in await client.ehlo()


async def test_a_lost_key_beside_a_ledger_stops_the_start(tmp_path: Path) -> None:
    async with house(tmp_path) as relay:
        await relay.send(mail())
    (tmp_path / "var" / "secret.key").unlink()
    with pytest.raises(LedgerError, match=r"secret\.key is missing.*restore it"):
        async with house(tmp_path):
            pass


async def test_health_tells_of_a_ledger_that_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path) as relay:
        with monkeypatch.context() as full:

            def fail(*_: object) -> None:
                raise LedgerError("no space left")

            full.setattr(relay.app.ledger.storage._journal, "append", fail)
            assert await relay.send(mail()) == OK
            assert relay.app._health()["status"] == "trouble"
        assert await relay.send(mail()) == OK
        assert relay.app._health()["status"] == "ok"


async def test_an_upstream_that_stalls_at_connect_does_not_hold_others(tmp_path: Path) -> None:
    async with house(tmp_path, {b"CONNECT": [b"220 probe\r\n", STALL, b"220 hello\r\n"]}) as relay:
        await until(lambda: len(relay.upstream.peers) == 1)  # the probe has the first connection
        stuck = asyncio.create_task(relay.send(HARMLESS))
        await until(lambda: len(relay.upstream.peers) == 2)
        assert await relay.send(HARMLESS) == OK
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)
