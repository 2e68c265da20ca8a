"""The candidate's page: what it shows, what it never does, and that it stands up in a running loop."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from relay_mta.core.company import Agency, Company
from relay_mta.core.errors import LedgerError, RelayError
from relay_mta.core.ports import LinkTarget
from relay_mta.web.app import create_app, presentable, serve_web
from relay_mta.web.language import preferred

TOKEN = "abcdefghijklmnopqrstuvwxy2"
AGENCY = Agency("サンプル人材紹介株式会社", "https://agency.example/register")
ACME = Company("acme", "株式会社アクメ", ("acme.example.jp",), AGENCY)


class Links:
    """A ledger's face that counts what is asked of it."""

    def __init__(self, error: Exception | None = None, company: str = "acme", language: str = "ja") -> None:
        self.error = error
        self.target = LinkTarget(company, "r1", language, datetime(2026, 1, 1, tzinfo=UTC))
        self.asked: list[str] = []

    async def suppress(self, token: str) -> bool:
        self.asked.append(f"suppress {token}")
        if self.error is not None:
            raise self.error
        return token == TOKEN

    async def by_token(self, token: str) -> LinkTarget | None:
        self.asked.append(token)
        if self.error is not None:
            raise self.error
        return self.target if token == TOKEN else None


def app_of(
    links: Links | None = None,
    company: Company = ACME,
    base_url: str = "https://relay.example.jp",
    health: Callable[[], Mapping[str, object]] = lambda: {"status": "ok", "version": "x"},
) -> Starlette:
    return create_app(links=links or Links(), companies={company.id: company}, base_url=base_url, health=health)


async def ask(app: Starlette, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await client.request(method, path, headers=named)


class Page(HTMLParser):
    """What a browser would find: tags with attributes, and the text outside of <style>."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(response.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


async def test_the_page_names_company_and_agency_and_leads_there() -> None:
    response = await ask(app_of(), f"/r/{TOKEN}", accept_language="ja")
    page = Page(response)
    assert response.status_code == 200
    assert ACME.name in page.text and AGENCY.name in page.text and "agency.example" in page.text
    assert "まだ何も伝わっていません" in page.text
    assert [a["href"] for a in page.all("a") if "go" in (a.get("class") or "")] == [AGENCY.url]
    assert TOKEN not in response.text, "the token goes nowhere from this page"


@pytest.mark.parametrize(
    ("path", "accept", "mail_language", "expected"),
    [
        (f"/r/{TOKEN}", "ja", "ja", "ja"),
        (f"/r/{TOKEN}", "en-GB,en;q=0.9,ja;q=0.8", "ja", "en"),
        (f"/r/{TOKEN}", "", "en", "en"),
        (f"/r/{TOKEN}", "fr", "ja", "ja"),
        (f"/r/{TOKEN}?lang=en", "ja", "ja", "en"),
        (f"/r/{TOKEN}?lang=ja", "en", "en", "ja"),
        (f"/r/{TOKEN}?lang=xx", "en", "ja", "en"),
        ("/c/acme", "en", "ja", "en"),
        ("/r/nope", "en", "ja", "en"),
    ],
)
async def test_language(path: str, accept: str, mail_language: str, expected: str) -> None:
    response = await ask(app_of(Links(language=mail_language)), path, accept_language=accept)
    page = Page(response)
    assert page.all("html")[0]["lang"] == expected
    assert response.headers["content-language"] == expected
    other = "ja" if expected == "en" else "en"
    assert f"?lang={other}" in [a["href"] for a in page.all("a")], "the other language is one press away"


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("ja-JP, en;q=0.5", "ja"),
        ("en;q=0.5, ja;q=0.6", "ja"),
        ("en;q=0.5, ja;q=0.5", "en"),
        ("ja;q=0, *", "en"),
        ("ja;q=0", "en"),
        ("*;q=0.1, ja;q=0.05", "en"),
        ("*", "en"),
        ("de, *;q=0.1", "en"),
        ("japanese, ja", "ja"),
        ("JA", "ja"),
        ("ja;q=2", "en"),
        ("ja;q=abc, ;;;, ,", "en"),
    ],
)
def test_accept_language(field: str, expected: str) -> None:
    assert preferred(field, otherwise="en") == expected


@given(st.text())
def test_any_accept_language_has_an_answer(field: str) -> None:
    assert preferred(field, otherwise="ja") in ("ja", "en")


async def test_unknown_tokens_are_one_and_the_same_404() -> None:
    app = app_of()
    answers = [
        await ask(app, path, accept_language="ja")
        for path in (
            "/r/aaaaaaaaaaaaaaaaaaaaaaaaaa",
            "/r/x",
            "/r/" + "a" * 5000,
            "/r/%00%ff",
            "/r/%E2%80%AE",
            "/c/nobody",
        )
    ]
    gone = await ask(app_of(Links(company="left")), f"/r/{TOKEN}", accept_language="ja")
    elsewhere = [await ask(app, path, accept_language="ja") for path in ("/", "/r/", "/r", f"/r/{TOKEN}/", "/x/../y")]
    assert {answer.status_code for answer in (*answers, gone, *elsewhere)} == {404}
    assert len({answer.text for answer in (*answers, gone, *elsewhere)}) == 1
    assert len({tuple(answer.headers.items()) for answer in (*answers, gone)}) == 1


@pytest.mark.parametrize("language", ["ja", "en"])
async def test_opting_out_takes_a_press_of_a_button(language: str) -> None:
    links = Links()
    app = app_of(links)
    for method in ("GET", "HEAD"):
        assert (await ask(app, f"/stop/{TOKEN}", method)).status_code == 200
    asked = Page(await ask(app, f"/stop/{TOKEN}", accept_language=language))
    (form,) = asked.all("form")
    assert form == {"method": "post"} and len(asked.all("button")) == 1
    assert not any(each.startswith("suppress") for each in links.asked), "looking changes nothing"
    done = await ask(app, f"/stop/{TOKEN}", "POST", accept_language=language)
    assert done.status_code == 200 and "アクメ" in done.text and "<form" not in done.text
    assert links.asked.count(f"suppress {TOKEN}") == 1
    assert "form-action 'self'" in done.headers["content-security-policy"]


async def test_nobody_opts_out_by_an_unknown_token() -> None:
    app = app_of()
    unknown = [await ask(app, f"/stop/{token}", "POST") for token in ("a" * 26, "x", "a" * 5000, "%00")]
    assert {answer.status_code for answer in unknown} == {404}
    assert {answer.text for answer in unknown} == {(await ask(app, "/r/nope")).text}
    assert (await ask(app_of(Links(LedgerError("x"))), f"/stop/{TOKEN}", "POST")).status_code == 503
    assert (await ask(app, f"/stop/{TOKEN}", "PUT")).status_code == 405


async def test_the_dedicated_page_asks_the_ledger_nothing() -> None:
    links = Links()
    response = await ask(app_of(links), "/c/acme")
    assert response.status_code == 200 and AGENCY.url in response.text
    assert links.asked == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", [f"/r/{TOKEN}", "/c/acme", "/healthz"])
async def test_other_methods_are_405(method: str, path: str) -> None:
    links = Links()
    response = await ask(app_of(links), path, method)
    assert response.status_code == 405
    assert set(response.headers["allow"].replace(" ", "").split(",")) == {"GET", "HEAD"}
    assert links.asked == []


async def test_head_is_get_without_its_body() -> None:
    app = app_of()
    got, head = await ask(app, f"/r/{TOKEN}"), await ask(app, f"/r/{TOKEN}", "HEAD")
    assert head.status_code == 200 and head.headers == got.headers


@pytest.mark.parametrize("path", [f"/r/{TOKEN}", "/r/nope", "/c/acme", "/healthz", "/nowhere"])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("error", [None, LedgerError("x"), ValueError("x")])
async def test_every_response_is_protected(path: str, method: str, error: Exception | None) -> None:
    response = await ask(app_of(Links(error)), path, method)
    headers = response.headers
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "max-age" in headers["strict-transport-security"]
    assert "set-cookie" not in headers and "server" not in headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
    assert "script-src" not in policy and "unsafe" not in headers["content-security-policy"]


async def test_the_style_is_the_one_that_the_policy_names() -> None:
    response = await ask(app_of(), f"/r/{TOKEN}")
    style = re.search("<style>(.*?)</style>", response.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in response.headers["content-security-policy"]
    assert len(response.content) < 30_000


@pytest.mark.parametrize("path", [f"/r/{TOKEN}", "/c/acme", "/r/nope"])
@pytest.mark.parametrize("language", ["ja", "en"])
async def test_the_page_asks_no_one_else_and_runs_nothing(path: str, language: str) -> None:
    page = Page(await ask(app_of(), path, accept_language=language))
    names = {name for name, _ in page.tags}
    assert not names & {"script", "img", "iframe", "form", "input", "object", "embed", "video", "audio", "base"}
    assert not any(attr.startswith("on") or attr in ("style", "ping", "src") for _, a in page.tags for attr in a)
    assert all((link["href"] or "").startswith("data:") for link in page.all("link"))
    assert len(page.all("h1")) == 1 and page.all("main") and page.all("title")
    assert any("width=device-width" in (meta.get("content") or "") for meta in page.all("meta"))


async def test_names_cannot_break_out() -> None:
    evil = "<script>alert(1)</script>\u202e\x00\r\n" + "あ" * 300
    company = replace(ACME, name=evil, agency=Agency('"><img src=x onerror=y>', "javascript:alert(1)"))
    response = await ask(app_of(company=company), "/c/acme")
    page = Page(response)
    names = {name for name, _ in page.tags}
    assert "script" not in names and "img" not in names
    assert "javascript:" not in response.text and "\u202e" not in response.text and "\x00" not in response.text
    assert "あ" * 101 not in response.text


@given(st.text(max_size=400))
def test_presentable(name: str) -> None:
    shown = presentable(name)
    assert len(shown) <= 100 and shown == presentable(shown)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\n]", shown)


async def test_trouble_of_the_ledger_asks_to_try_later() -> None:
    secret = "person@example.org"
    for error, status in ((LedgerError(secret), 503), (TimeoutError(secret), 503), (KeyError(secret), 500)):
        response = await ask(app_of(Links(error)), f"/r/{TOKEN}", accept_language="ja")
        assert response.status_code == status
        assert "もう一度お試しください" in response.text and secret not in response.text
        if status == 503:
            assert int(response.headers["retry-after"]) > 0


async def test_the_host_field_is_never_used() -> None:
    response = await ask(app_of(), f"/r/{TOKEN}", host="evil.example", x_forwarded_host="evil.example")
    assert response.status_code == 200 and "evil.example" not in response.text + str(response.headers)


async def test_no_https_no_hsts() -> None:
    response = await ask(app_of(base_url="http://127.0.0.1:8080"), "/c/acme")
    assert "strict-transport-security" not in response.headers


async def test_health() -> None:
    def broken() -> Mapping[str, object]:
        raise RuntimeError("secret")

    well = await ask(app_of(), "/healthz")
    assert (well.status_code, well.json()) == (200, {"status": "ok", "version": "x"})
    ill = await ask(app_of(health=lambda: {"status": "failing", "ledger": "read-only"}), "/healthz")
    assert (ill.status_code, ill.json()["ledger"]) == (503, "read-only")
    silent = await ask(app_of(health=broken), "/healthz")
    assert silent.status_code == 503 and "secret" not in silent.text


# --- serving --------------------------------------------------------------------------------------------------------


async def test_it_serves_in_a_running_loop_and_leaves_signals_alone() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    server = await serve_web(app_of(), "127.0.0.1", 0)
    try:
        assert {number: signal.getsignal(number) for number in before} == before
        async with httpx.AsyncClient() as client:
            response = await client.get(f"http://127.0.0.1:{server.port}/r/{TOKEN}")
        assert response.status_code == 200 and "server" not in response.headers
    finally:
        await server.stop()
    await server.stop()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", server.port)


async def test_stopping_does_not_wait_for_a_silent_client() -> None:
    server = await serve_web(app_of(), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    await writer.drain()
    try:
        async with asyncio.timeout(8):
            await server.stop()
    finally:
        writer.close()


async def test_a_port_in_use_is_one_clear_line() -> None:
    server = await serve_web(app_of(), "127.0.0.1", 0)
    try:
        with pytest.raises(RelayError, match=rf"^127\.0\.0\.1:{server.port}: cannot listen for the web here: [^\n]+$"):
            await serve_web(app_of(), "127.0.0.1", server.port)
    finally:
        await server.stop()
    with pytest.raises(RelayError, match=r"^no-such-host\.invalid:0: cannot listen"):
        await serve_web(app_of(), "no-such-host.invalid", 0)


async def test_no_token_reaches_a_log(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level("DEBUG")
    server = await serve_web(app_of(Links(KeyError("x"))), "127.0.0.1", 0)
    async with httpx.AsyncClient() as client:
        caplog.clear()
        response = await client.get(f"http://127.0.0.1:{server.port}/r/{TOKEN}")
    await server.stop()
    assert response.status_code == 500
    ours = "".join(record.getMessage() for record in caplog.records if not record.name.startswith("http"))
    assert TOKEN not in ours and TOKEN not in "".join(capfd.readouterr())
