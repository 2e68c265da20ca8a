"""Our tokens, from a real endpoint on loopback that looks at every field and signature (`tests.oauth_server`)."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import select
import socket
import ssl
import time
import traceback
import urllib.request
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay_mta import oauth
from relay_mta.core.errors import LoginError, RelayError, UpstreamError
from relay_mta.core.ports import Tokens
from relay_mta.oauth import GoogleTokens, MicrosoftTokens
from tests.oauth_server import AUDIENCE, CANARY, GOOGLE_FAULTS, OAuthServer, pem

CERTIFICATES = Path(__file__).resolve().parent / "smtp" / "certificates"


class Clock:
    """A clock that stands until it is set on."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
async def server() -> AsyncIterator[OAuthServer]:
    async with OAuthServer() as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    return Clock()


def microsoft(server: OAuthServer, **changes: Any) -> MicrosoftTokens:
    given = {
        "tenant": server.tenant,
        "client_id": server.client_id,
        "secret": lambda: server.secret,
        "token_url": server.url,
    }
    return MicrosoftTokens(**(given | changes))


def google(server: OAuthServer, **changes: Any) -> GoogleTokens:
    return GoogleTokens(**({"account": server.account, "subject": server.subject, "token_url": server.url} | changes))


async def why(tokens: Tokens) -> str:
    """The one line of a token that cannot be had."""
    with pytest.raises(LoginError) as raised:
        await tokens.token()
    text = str(raised.value)
    assert isinstance(raised.value, UpstreamError)
    assert text and text.isprintable() and CANARY not in text
    return text


# --- the two grants -------------------------------------------------------------------------------------------------


async def test_an_application_gets_a_token(server: OAuthServer) -> None:
    token = await microsoft(server).token()
    assert server.issued == {token}
    (request,) = server.requests
    assert request.form == {
        "grant_type": "client_credentials",
        "client_id": server.client_id,
        "client_secret": server.secret,
        "scope": "https://outlook.office365.com/.default",
    }
    assert "Authorization" not in request.headers


async def test_a_service_account_gets_a_token(server: OAuthServer) -> None:
    before = int(time.time())
    token = await google(server).token()
    assert server.issued == {token}
    (request,) = server.requests
    assert request.form.keys() == {"grant_type", "assertion"}
    assert request.claims["exp"] - request.claims["iat"] == 3600
    assert before <= request.claims["iat"] <= time.time()
    assert request.claims | {"iat": 0, "exp": 0} == {
        "iss": server.email,
        "sub": server.subject,
        "aud": AUDIENCE,
        "scope": "https://mail.google.com/",
        "iat": 0,
        "exp": 0,
    }
    header = json.loads(base64.urlsafe_b64decode(request.form["assertion"].partition(".")[0] + "=="))
    assert header == {"alg": "RS256", "typ": "JWT", "kid": server.key_id}


async def test_a_service_account_asks_where_its_file_says(server: OAuthServer) -> None:
    tokens = google(server, account=lambda: server.account(token_uri=server.url), token_url=None)
    assert "Invalid" not in await why(tokens)  # the audience is that URL now, which this server is not
    (request,) = server.requests
    assert request.claims["aud"] == server.url


async def test_a_file_without_the_keys_id_will_do(server: OAuthServer) -> None:
    await google(server, account=lambda: server.account(private_key_id=None)).token()


@pytest.mark.parametrize("make", [microsoft, google])
async def test_files_are_read_anew_for_each_request(server: OAuthServer, clock: Clock, make: Any) -> None:
    calls: list[str] = []

    def secret() -> str:
        calls.append("")
        return server.secret

    def account() -> bytes:
        calls.append("")
        return server.account()

    tokens = make(server, clock=clock, **({"secret": secret} if make is microsoft else {"account": account}))
    first = await tokens.token()
    await tokens.token()
    server.secret = "rotated"  # at the server and in the file
    clock.time += 3600
    assert await tokens.token() != first
    assert len(calls) == 2


# --- the cache ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expires_in", "margin"), [(3599, 300), (7200, 300), (600, 300), (60, 30), (1, 0.5)])
async def test_a_token_is_kept_until_shortly_before_its_end(
    server: OAuthServer, clock: Clock, expires_in: int, margin: float
) -> None:
    server.expires_in = expires_in
    tokens = microsoft(server, clock=clock)
    first = await tokens.token()
    clock.time += expires_in - margin - 0.1
    assert await tokens.token() == first
    clock.time += 0.1
    second = await tokens.token()
    assert second != first
    assert await tokens.token() == second
    assert len(server.requests) == 2


async def test_its_life_counts_from_the_request(server: OAuthServer, clock: Clock) -> None:
    server.expires_in, server.delay = 100, 0.2
    tokens = microsoft(server, clock=clock)
    waiting = asyncio.create_task(tokens.token())
    await asyncio.sleep(0.1)
    clock.time += 60  # so long did the answer take
    first = await waiting
    assert await tokens.token() != first


async def test_one_request_serves_all_who_wait(server: OAuthServer) -> None:
    server.delay = 0.2
    tokens = google(server)
    got = await asyncio.gather(*(tokens.token() for _ in range(50)))
    assert len(set(got)) == len(server.requests) == 1


async def test_one_failure_serves_all_who_wait(server: OAuthServer) -> None:
    server.delay = 0.2
    server.faults.add("AADSTS7000222")
    tokens = microsoft(server)
    got = await asyncio.gather(*(tokens.token() for _ in range(50)), return_exceptions=True)
    assert len({str(error) for error in got}) == len(server.requests) == 1
    assert all(isinstance(error, LoginError) for error in got)
    assert len({id(error) for error in got}) == 50, "each has its own: a traceback grows with each raise"


async def test_a_session_that_is_given_up_takes_no_other_with_it(server: OAuthServer) -> None:
    server.delay = 0.3
    tokens = microsoft(server)
    first = asyncio.create_task(tokens.token())
    await asyncio.sleep(0.1)
    second = asyncio.create_task(tokens.token())
    await asyncio.sleep(0.05)
    first.cancel()
    assert {await second} == server.issued
    assert first.cancelled() and len(server.requests) == 1


async def test_a_request_that_nobody_waits_for_any_more_is_of_use_to_the_next(server: OAuthServer) -> None:
    server.delay = 0.2
    tokens = microsoft(server)
    only = asyncio.create_task(tokens.token())
    await asyncio.sleep(0.1)
    only.cancel()
    assert {await tokens.token()} == server.issued
    assert len(server.requests) == 1


async def test_a_failure_is_remembered_for_some_seconds(server: OAuthServer, clock: Clock) -> None:
    server.faults.add("AADSTS700016")
    tokens = microsoft(server, clock=clock)
    first = await why(tokens)
    server.faults.clear()
    clock.time += 9.9
    assert await why(tokens) == first
    assert len(server.requests) == 1
    clock.time += 0.2
    assert {await tokens.token()} == server.issued


@pytest.mark.parametrize("fault", ["AADSTS7000222", "503", "drop", "garbage"])
async def test_an_old_token_serves_until_its_end_if_there_is_no_new_one(
    server: OAuthServer, clock: Clock, fault: str
) -> None:
    tokens = microsoft(server, clock=clock)
    first = await tokens.token()
    server.faults.add(fault)
    clock.time += 3400
    assert await tokens.token() == first
    assert await tokens.token() == first, "and no further request for it"
    assert len(server.requests) == 2
    clock.time += 198
    assert await tokens.token() == first
    clock.time += 2
    await why(tokens)


async def test_a_slow_renewal_does_not_hold_up_mail(
    server: OAuthServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oauth, "PATIENCE_SECONDS", 0.1)
    tokens = microsoft(server, clock=clock)
    first = await tokens.token()
    clock.time += 3400
    server.delay = 0.6
    began = time.monotonic()
    assert await tokens.token() == first
    assert await tokens.token() == first
    assert time.monotonic() - began < 0.5
    await asyncio.sleep(0.7)
    assert await tokens.token() != first
    assert len(server.requests) == 2


async def test_an_old_token_that_ends_meanwhile_is_not_given_out(
    server: OAuthServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oauth, "PATIENCE_SECONDS", 0.2)
    tokens = microsoft(server, clock=clock)
    first = await tokens.token()
    clock.time += 3598
    server.delay = 0.5
    waiting = asyncio.create_task(tokens.token())
    await asyncio.sleep(0.05)
    clock.time += 2
    assert await waiting != first


async def test_no_old_token_no_patience(server: OAuthServer, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth, "PATIENCE_SECONDS", 0.0)
    server.delay = 0.2
    tokens = microsoft(server, clock=clock)
    first = await tokens.token()
    clock.time += 3600
    assert await tokens.token() != first


# --- refused by the upstream ----------------------------------------------------------------------------------------


async def test_a_refused_token_is_replaced_once_a_minute(server: OAuthServer, clock: Clock) -> None:
    tokens = google(server, clock=clock)
    first = await tokens.token()
    tokens.refused()
    second = await tokens.token()
    assert second != first
    for _ in range(5):
        tokens.refused()
        clock.time += 11
        assert await tokens.token() == second
    assert len(server.requests) == 2
    clock.time += 5.1
    assert await tokens.token() not in (first, second)
    clock.time += 100
    await tokens.token()
    assert len(server.requests) == 3, "the new one was not refused"


async def test_refused_before_there_is_one(server: OAuthServer) -> None:
    tokens = microsoft(server)
    tokens.refused()
    first = await tokens.token()
    assert await tokens.token() == first


async def test_after_a_refusal_nobody_is_given_the_old_one_while_a_new_one_comes(
    server: OAuthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oauth, "PATIENCE_SECONDS", 0.0)
    tokens = microsoft(server)
    first = await tokens.token()
    tokens.refused()
    server.delay = 0.2
    got = set(await asyncio.gather(*(tokens.token() for _ in range(10))))
    assert len(got) == 1 and first not in got and len(server.requests) == 2


async def test_a_refused_token_is_better_than_none(server: OAuthServer, clock: Clock) -> None:
    tokens = microsoft(server, clock=clock)
    first = await tokens.token()
    tokens.refused()
    server.faults.add("503")
    assert await tokens.token() == first
    clock.time += 30  # the failure is forgotten, the minute is not over
    assert await tokens.token() == first
    assert len(server.requests) == 2
    server.faults.clear()
    clock.time += 31
    assert await tokens.token() != first


# --- refused by the endpoint ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("AADSTS7000215", "AADSTS7000215: the client secret is wrong: make one"),
        ("AADSTS7000222", "AADSTS7000222: the client secret has expired: make one"),
        ("entra-without-numbers", "AADSTS7000222: the client secret has expired: make one"),
        ("AADSTS700016", "AADSTS700016: the application is unknown in this tenant"),
        ("AADSTS90002", "AADSTS90002: the tenant is unknown: correct"),
        ("AADSTS900023", "AADSTS900023: the tenant is none: correct"),
        ("AADSTS65001", "AADSTS65001: consent for the application is missing: give it"),
        ("AADSTS500011", "AADSTS500011: Office 365 Exchange Online is unknown in this tenant"),
        ("AADSTS53003", "AADSTS53003: a Conditional Access policy blocks the application"),
        ("AADSTS7000112", "AADSTS7000112: the application is disabled: enable"),
        ("AADSTS90033", "trouble on its side (HTTP 401): temporary"),
        ("AADSTS12345", "refused with AADSTS12345: login.microsoftonline.com/error?code=12345"),
        ("429", "too many requests (HTTP 429): temporary"),
        ("500", "trouble on its side (HTTP 500): temporary"),
        ("503", "trouble on its side (HTTP 503): temporary"),
        ("404", "there is no token endpoint at this address (HTTP 404)"),
        ("403", "refused with HTTP 403 and no code that is known"),
        ("garbage", "its answer is no JSON object"),
        ("array", "its answer is no JSON object"),
        ("deep", "its answer is no JSON object"),
        ("bomb", "its answer is no JSON object"),
        ("no-token", "no access_token that could be used"),
        ("token-with-separator", "no access_token that could be used"),
        ("token-of-no-type", "token_type is not Bearer"),
        ("token-of-another-type", "token_type is not Bearer"),
        ("huge", "its answer is longer than 65536 bytes"),
        ("endless", "its answer is longer than 65536 bytes"),
        ("drop", "the connection broke before its answer was whole"),
        ("cut-off", "the connection broke before its answer was whole"),
    ],
)
async def test_each_way_to_fail_has_its_line(server: OAuthServer, fault: str, says: str) -> None:
    server.faults.add(fault)
    text = await why(microsoft(server))
    assert text.startswith("127.0.0.1: ") and says in text
    assert server.secret not in text and server.client_id not in text and "Trace" not in text
    assert not any(token in text for token in server.issued)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("account-not-found", "invalid_grant: the service account was deleted or disabled"),
        ("no-verifier", "invalid_grant: the service account has no such key or does not exist"),
        ("no-email", "invalid_grant: the mailbox that the relay logs in as does not exist"),
        ("impersonation", "invalid_request: the mailbox that the relay logs in as is no address"),
        ("invalid-grant", "refused with invalid_grant (HTTP 400)"),
        ("unauthorized-client", "unauthorized_client: domain-wide delegation is missing or lacks the scope"),
        ("access-denied", "access_denied: domain-wide delegation lacks the scope"),
        ("admin-policy", "admin_policy_enforced: a policy of the organisation forbids the scope"),
        ("invalid-client", "invalid_client: the service account is unknown"),
        ("deleted-client", "deleted_client: the service account's client was deleted"),
        ("disabled-client", "disabled_client: the service account or its key is disabled"),
        ("org-internal", "org_internal: the service account is for its own organisation alone"),
        ("unheard-of", "refused with HTTP 400 and no code that is known"),
        ("temporarily-unavailable", "trouble on its side (HTTP 400): temporary"),
        ("503", "trouble on its side (HTTP 503): temporary"),
    ],
)
async def test_each_of_googles_refusals_has_its_line(server: OAuthServer, fault: str, says: str) -> None:
    server.faults.add(fault)
    text = await why(google(server))
    assert text.startswith(f"127.0.0.1: {says}")
    assert server.email not in text and server.subject not in text
    if fault in GOOGLE_FAULTS:
        assert GOOGLE_FAULTS[fault][2] not in text


async def test_a_wrong_secret_and_a_wrong_application(server: OAuthServer) -> None:
    assert "AADSTS7000215" in await why(microsoft(server, secret=lambda: "s3cr3t-and-wrong"))
    assert "AADSTS700016" in await why(microsoft(server, client_id="another"))


async def test_a_key_that_is_no_longer_the_accounts(server: OAuthServer) -> None:
    other = pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    text = await why(google(server, account=lambda: server.account(private_key=other)))
    assert "invalid_grant: the key was deleted, or is another account's" in text


@pytest.mark.parametrize("ahead", [-7200, 7200])
async def test_a_clock_that_is_wrong(server: OAuthServer, ahead: int) -> None:
    assert "this machine's clock is wrong" in await why(google(server, now=lambda: time.time() + ahead))


async def test_a_mailbox_that_does_not_exist(server: OAuthServer) -> None:
    text = await why(google(server, subject="nobody@acme.example"))
    assert "the mailbox that the relay logs in as does not exist" in text and "nobody" not in text


@pytest.mark.parametrize("fault", ["content-type", "type-in-lower-case"])
async def test_what_does_no_harm_is_taken(server: OAuthServer, fault: str) -> None:
    server.faults.add(fault)
    assert {await microsoft(server).token()} == server.issued


@pytest.mark.parametrize("fault", ["redirect", "redirect-post"])
async def test_a_redirect_is_not_followed(server: OAuthServer, fault: str) -> None:
    server.faults.add(fault)
    assert "a redirect (HTTP 30" in await why(microsoft(server))
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["slow", "drip"])
async def test_an_answer_has_ten_seconds_in_all(server: OAuthServer, fault: str) -> None:
    assert oauth.FETCH_SECONDS == 10
    server.faults.add(fault)
    began = time.monotonic()
    assert "no answer within 0.5 seconds: temporary" in await why(microsoft(server, timeout=0.5))
    assert time.monotonic() - began < 1.5


async def test_a_file_that_does_not_come_is_bounded_too(server: OAuthServer) -> None:
    there = Event()

    def secret() -> str:
        there.wait(10)
        return server.secret

    text = await why(microsoft(server, secret=secret, timeout=0.2))
    assert "the token request: no answer within 0.2 seconds" in text
    there.set()
    assert not server.requests


# --- the operator's files -------------------------------------------------------------------------------------------


async def test_a_secret_that_cannot_be_read(server: OAuthServer, clock: Clock) -> None:
    def secret() -> str:
        raise RelayError("secret.txt: cannot be read:\nPermission denied")

    assert await why(microsoft(server, secret=secret)) == "secret.txt: cannot be read: Permission denied"
    assert await why(microsoft(server, secret=lambda: "")) == "the client secret is empty"
    assert not server.requests


EC_KEY = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (b"", "key file is no JSON object"),
        (b"-----BEGIN PRIVATE KEY-----", "key file is no JSON object"),
        (b"[]", "key file is no JSON object"),
        (b"[" * 100_000, "key file is no JSON object"),
        (
            b'{"installed": {"client_id": "hush"}}',
            "lacks client_email, private_key, token_uri: is it a service account's",
        ),
        ({"client_email": None}, "lacks client_email:"),
        ({"client_email": ""}, "lacks client_email:"),
        ({"private_key": None, "token_uri": 1}, "lacks private_key, token_uri:"),
        ({"private_key": "hush"}, "a private_key that is no RSA key"),
        ({"private_key": "-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----\n"}, "that is no RSA key"),
        ({"private_key": "\ud800"}, "that is no RSA key"),
        ({"private_key": EC_KEY.decode()}, "that is no RSA key"),
        ({"token_uri": "http://hush.example/token"}, "token_uri: must be https://"),
        ({"token_uri": "hush"}, "token_uri: is no https:// URL"),
    ],
)
async def test_a_key_file_that_is_none(server: OAuthServer, changes: Any, says: str) -> None:
    raw = changes if isinstance(changes, bytes) else server.account(**changes)
    text = await why(google(server, account=lambda: raw, token_url=None))
    assert text.startswith("the service account's key file") and says in text and "hush" not in text
    assert not server.requests


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://login.example/hush", "http:// is for this machine alone"),
        ("http://127.0.0.1.hush.example/", "http:// is for this machine alone"),
        ("http://0.0.0.0/hush", "http:// is for this machine alone"),
        ("http://user:hush@127.0.0.1/", "must have no user"),
        ("https://user:hush@login.example/", "must have no user"),
        ("https://login.example/?key=hush", "must have no user, password, query"),
        ("https://login.example/#hush", "must have no user"),
        ("ftp://login.example/hush", "is no https:// URL"),
        ("login.example/hush", "is no https:// URL"),
        ("https:///hush", "is no https:// URL"),
        ("https://[hush/", "is no URL"),
        ("https://login.example:99999999/hush", "is no URL"),
        ("https://hush\x00/", "is no URL"),
    ],
)
def test_a_url_that_would_give_the_secret_away_is_not_taken(url: str, says: str) -> None:
    for make in (
        lambda: MicrosoftTokens(tenant="t", client_id="c", secret=lambda: "s", token_url=url),
        lambda: GoogleTokens(account=lambda: b"", subject="s", token_url=url),
    ):
        with pytest.raises(RelayError) as raised:
            make()
        assert str(raised.value).startswith("token_url: ") and says in str(raised.value)
        assert "hush" not in str(raised.value)


@pytest.mark.parametrize("tenant", ["", "a/../b", "a b", "a?b", "https://x", "é", "a%2fb"])
def test_a_tenant_that_leads_elsewhere_is_not_taken(tenant: str) -> None:
    with pytest.raises(RelayError, match="tenant: is neither a directory's ID nor a domain"):
        MicrosoftTokens(tenant=tenant, client_id="c", secret=lambda: "s")


# --- the way there --------------------------------------------------------------------------------------------------


async def test_an_endpoint_that_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    tokens = MicrosoftTokens(tenant="t", client_id="c", secret=lambda: "s", token_url=f"http://127.0.0.1:{port}/")
    assert await why(tokens) == "127.0.0.1: cannot be reached: Connection refused"


async def test_a_name_that_does_not_exist() -> None:
    tokens = MicrosoftTokens(tenant="t", client_id="c", secret=lambda: "s", token_url="https://login.invalid/token")
    assert (await why(tokens)).startswith("login.invalid: its name cannot be resolved: ")


def tls_server(name: str) -> OAuthServer:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATES / name)
    return OAuthServer(tls=context)


async def test_a_certificate_that_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "ca.pem"))
    async with tls_server("localhost.pem") as server:
        assert {await microsoft(server).token()} == server.issued


@pytest.mark.parametrize(
    ("certificate", "trusted", "says"),
    [
        ("localhost.pem", False, "unable to get local issuer certificate"),
        ("elsewhere.pem", True, "IP address mismatch"),
        ("expired.pem", True, "certificate has expired"),
    ],
)
async def test_a_certificate_that_is_not(
    monkeypatch: pytest.MonkeyPatch, certificate: str, trusted: bool, says: str
) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "ca.pem"))
    async with tls_server(certificate) as server:
        text = await why(microsoft(server))
        assert text.startswith("127.0.0.1: its certificate was not accepted: ") and says in text
        assert not server.requests


async def test_no_tls_where_there_should_be(server: OAuthServer) -> None:
    tokens = microsoft(server, token_url=server.url.replace("http://", "https://"))
    assert (await why(tokens)).startswith("127.0.0.1: TLS failed: ")


# --- the real names, and proxies ------------------------------------------------------------------------------------


class ConnectProxy:
    """An HTTP proxy (RFC 9110 §9.3.6) that takes every CONNECT to one port of ours, whatever name is asked for."""

    def __init__(self, target: int, *, status: int = 200) -> None:
        self.asked: list[tuple[str, str | None]] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_CONNECT(self) -> None:
                proxy.asked.append((self.path, self.headers.get("Proxy-Authorization")))
                self.send_response(status)
                self.end_headers()
                if status != 200:
                    return
                with socket.create_connection(("127.0.0.1", target)) as onward:
                    while ready := select.select([self.connection, onward], [], [], 5)[0]:
                        for end in ready:
                            data = end.recv(65536)
                            if not data:
                                return
                            (onward if end is self.connection else self.connection).sendall(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = self._server.server_address[1]
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> ConnectProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of the real endpoints' names, its key behind it; it is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = ["login.microsoftonline.com", "oauth2.googleapis.com"]
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
        .sign(key, SHA256())
    )
    path = tmp_path_factory.mktemp("certificate") / "real.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(made.public_bytes(Encoding.PEM) + private)
    return path


@pytest.fixture
def real(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OAuthServer]:
    """The endpoint under its real names, which a proxy alone leads to."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with OAuthServer(tls=context) as server:
        yield server


@pytest.mark.parametrize("form", ["http://user:pass@127.0.0.1:{}", "user:pass@127.0.0.1:{}"])
async def test_through_a_proxy_to_the_real_names(real: OAuthServer, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    with ConnectProxy(real.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", form.format(proxy.port))
        got = {await microsoft(real, token_url=None).token(), await google(real, token_url=None).token()}
    assert got == real.issued
    login = "Basic " + base64.b64encode(b"user:pass").decode()
    assert proxy.asked == [("login.microsoftonline.com:443", login), ("oauth2.googleapis.com:443", login)]
    assert [request.path for request in real.requests] == [f"/{real.tenant}/oauth2/v2.0/token", "/token"]
    assert not any("Proxy-Authorization" in request.headers for request in real.requests)


async def test_a_proxy_that_does_not_let_us_through(real: OAuthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with ConnectProxy(real.port, status=407) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:hush@127.0.0.1:{proxy.port}")
        text = await why(microsoft(real, token_url=None))
    assert text.startswith("login.microsoftonline.com through HTTPS_PROXY: the proxy did not let us through")
    assert "hush" not in text
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:hush@127.0.0.1:{proxy.port}")
    text = await why(microsoft(real, token_url=None))
    assert text == "login.microsoftonline.com through HTTPS_PROXY: cannot be reached: Connection refused"


@pytest.mark.parametrize("value", ["socks5://hush:1080", "ftp://hush", "http://[hush", "http://hush:port", "http://"])
async def test_a_proxy_that_is_none(real: OAuthServer, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    text = await why(microsoft(real, token_url=None))
    assert "HTTPS_PROXY is no http:// or https:// URL" in text and "hush" not in text


async def test_hosts_in_no_proxy_are_asked_directly(real: OAuthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with ConnectProxy(real.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "localhost,.invalid")
        text = await why(microsoft(real, token_url="https://login.invalid/token"))
        assert text.startswith("login.invalid: ") and not proxy.asked


async def test_no_proxy_and_no_netrc_on_the_way_to_this_machine(
    server: OAuthServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hush\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert {await microsoft(server).token()} == server.issued
    assert "Authorization" not in server.requests[0].headers
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "ca.pem"))
    async with tls_server("localhost.pem") as secure:
        assert {await microsoft(secure).token()} == secure.issued


# --- secrets --------------------------------------------------------------------------------------------------------


async def test_no_log_and_no_traceback_holds_a_secret(
    server: OAuthServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "httpx", "httpcore"):
        caplog.set_level(logging.DEBUG, logger=name)
    seen = []
    sources = [microsoft(server, clock=clock), google(server, clock=clock)]
    for fault in ("", "AADSTS7000222", "huge", "drop", "cut-off", "garbage", "redirect"):
        server.faults = {fault} - {""}
        for tokens in sources:
            try:
                await tokens.token()
            except LoginError as error:
                seen += traceback.format_exception(error)
            seen += [repr(tokens), repr(vars(tokens)["_kept"]), repr(tokens._request())]
        clock.time += 3600
    assert "HTTP Request: POST" in caplog.text, "httpx writes its line: it is what stands in it that matters"
    private = str(json.loads(server.account())["private_key"]).splitlines()[1]
    hidden = [server.secret, quote_plus(server.secret), *server.issued, private]
    hidden += [request.form["assertion"].rpartition(".")[2] for request in server.requests if request.claims]
    hidden = [*hidden, *(base64.b64encode(each.encode()).decode() for each in hidden)]
    assert len(server.requests) == 14 and len(server.issued) >= 2
    for text in (*seen, caplog.text):
        assert not [each for each in hidden if each in text]


# --- the server -----------------------------------------------------------------------------------------------------


def test_the_server_serves_a_test_without_a_loop() -> None:
    with OAuthServer() as server:
        form = {
            "grant_type": "client_credentials",
            "client_id": server.client_id,
            "client_secret": server.secret,
            "scope": "https://outlook.office365.com/.default",
        }
        answer = json.load(urllib.request.urlopen(server.url, urlencode(form).encode(), timeout=5))
        assert server.issued == {answer["access_token"]}
        server.revoke()
        assert not server.issued


async def test_the_servers_tokens_end(server: OAuthServer) -> None:
    server.expires_in = 0.2
    token = await microsoft(server).token()
    assert token in server.issued
    await asyncio.sleep(0.3)
    assert not server.issued
