"""The relay's own login with OAuth, whole: configuration → process → token endpoint → XOAUTH2 at the upstream."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay_mta.smtp.tls import server_context
from tests.e2e.process import BASE_CONFIG, Relay
from tests.oauth_server import OAuthServer
from tests.smtp.clients import Dialog
from tests.smtp.peers import EXTENSIONS, Peer, ScriptedUpstream

CERTIFICATES = Path(__file__).parent / "smtp" / "certificates"
USER = "relay@acme.example.jp"
REASONS = base64.b64encode(b'{"status":"401","schemes":"bearer"}')


@dataclass
class Office:
    """An upstream that takes the token endpoint's tokens and no others, and a relay in front of it."""

    oauth: OAuthServer
    upstream: ScriptedUpstream
    relay: Relay
    user: str
    refusal: bytes = b"535 5.7.3 Authentication unsuccessful\r\n"

    async def auth(self, peer: Peer) -> bytes:
        words = peer.lines[-1].split(b" ")
        assert peer.tls and words[1] == b"XOAUTH2", "a token in clear"
        said = dict(each.split(b"=", 1) for each in base64.b64decode(words[2]).split(b"\x01") if each)
        assert said[b"user"] == self.user.encode()
        if said[b"auth"].removeprefix(b"Bearer ").decode() in self.oauth.issued:
            return b"235 2.7.0 welcome\r\n"
        await peer.say(b"334 " + REASONS + b"\r\n")
        assert await peer.reader.readuntil(b"\n") == b"\r\n"
        return self.refusal

    async def send(self) -> bytes:
        async with Dialog(self.relay.smtp_port) as client:
            await client.ehlo()
            answer = await client.say(b"MAIL FROM:<hr@acme.example.jp>")
            if answer.startswith(b"250"):
                await client.say(b"RCPT TO:<taro@mail.example>")
                await client.say(b"DATA")
                answer = await client.say(b"Subject: hello\r\n\r\nhello\r\n.")
            await client.say(b"QUIT")
            return answer


@asynccontextmanager
async def office(tmp_path: Path, provider: str) -> AsyncIterator[Office]:
    async with (
        OAuthServer() as oauth,
        ScriptedUpstream(
            extensions=(*EXTENSIONS, "AUTH XOAUTH2"), ssl_context=server_context(CERTIFICATES / "localhost.pem")
        ) as upstream,
    ):
        (tmp_path / "secret").write_text(f"{oauth.secret}\n")
        (tmp_path / "key.json").write_bytes(oauth.account())
        tables = {
            "microsoft": f'provider = "microsoft", tenant = "{oauth.tenant}", client_id = "{oauth.client_id}", '
            'secret = { file = "secret" }',
            "google": 'provider = "google", service_account = { file = "key.json" }',
        }
        user = oauth.subject if provider == "google" else USER
        login = f'{{ user = "{user}", oauth = {{ {tables[provider]}, token_url = "{oauth.url}" }} }}'
        config = BASE_CONFIG.replace(
            'upstream = { host = "127.0.0.1", port = {upstream_port}, tls = "none" }',
            f'upstream = {{ host = "localhost", port = {{upstream_port}}, tls = "starttls", '
            f'ca_file = "{CERTIFICATES / "ca.pem"}", login = {login} }}',
        )
        relay = Relay(tmp_path, config, upstream_port=upstream.port)
        it = Office(oauth, upstream, relay, user)
        upstream.script[b"AUTH"] = it.auth
        await asyncio.to_thread(relay.start)
        try:
            yield it
        finally:
            await asyncio.to_thread(relay.stop)


@pytest.mark.parametrize("provider", ["microsoft", "google"])
async def test_a_token_lets_the_relay_in_and_serves_many_mails(tmp_path: Path, provider: str) -> None:
    async with office(tmp_path, provider) as it:
        for _ in range(3):
            assert (await it.send()).startswith(b"250")
        assert len(it.upstream.accepted) == 3
        assert len(it.oauth.requests) == 1, "a token is fetched once"
        assert sum(line.startswith(b"AUTH") for line in it.upstream.commands) == 1, "the session is used again"


async def test_what_keeps_the_relay_out_is_451_for_the_client_and_a_hint_for_the_operator(tmp_path: Path) -> None:
    async with office(tmp_path, "microsoft") as it:
        it.oauth.faults.add("AADSTS7000222")
        assert (await it.send()).startswith(b"451 4.7.0")
        assert "AADSTS7000222" in it.relay.said()
        assert "MAIL" not in str(it.upstream.commands), "nothing of the mail went anywhere"
        assert it.oauth.secret not in it.relay.said()


async def test_a_token_that_is_refused_is_fetched_anew(tmp_path: Path) -> None:
    async with office(tmp_path, "microsoft") as it:
        assert (await it.send()).startswith(b"250")
        it.oauth.revoke()
        for peer in it.upstream.peers:  # the parked session ends; the next one has to log in
            peer.writer.close()
        assert (await it.send()).startswith(b"451 4.7.0")
        assert "New-ServicePrincipal" in it.relay.said(), "what an operator can do about it"
        assert (await it.send()).startswith(b"250")
        assert len(it.oauth.requests) == 2
        said = it.relay.said()
        assert not any(token in said for token in it.oauth.issued)
        assert json.loads(base64.b64decode(REASONS))["status"] not in said
