"""The page behind a candidate's link, the dedicated page of a company, and the health check.

What it promises: GET and HEAD change nothing, whoever sends them (mail scanners open every link); opting out takes a
press of a button; nothing about the
candidate is on the page, and nothing is handed to the agency; the token goes nowhere, neither to a log, nor by Referer,
nor to the agency; no script, no cookie, no request to anyone else; the Host field is never used; an unknown, erased or
malformed token is the same plain 404; trouble of the ledger is a page that asks to try later.
What it does not: registration and the counting of visits; it does not limit requests by address.

    GET /r/TOKEN     the candidate's page          GET /c/COMPANY   the same page without a token
    GET /stop/TOKEN  asks whether to stop          POST /stop/TOKEN stops: no link again from this company
    GET /healthz     {"status": "ok", …}, 503 when something is wrong

`serve_web` runs it in the loop of the caller and leaves the process's signals alone.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import socket
import unicodedata
from collections.abc import Callable, Generator, Mapping
from importlib import resources
from typing import Protocol
from urllib.parse import urlsplit

import uvicorn
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relay_mta.core.company import Company
from relay_mta.core.errors import LedgerError, RelayError
from relay_mta.core.ports import Links
from relay_mta.core.verdict import Language
from relay_mta.web.language import preferred

_LOOKUP_SECONDS = 5.0  # a ledger that takes longer is in trouble; a phone's user has gone by then
_LONGEST_TOKEN = 64
_LONGEST_NAME = 100


def create_app(
    *, links: Links, companies: Mapping[str, Company], base_url: str, health: Callable[[], Mapping[str, object]]
) -> Starlette:
    """The ASGI application. `companies` by id; `health` gives the health check's body, well if its "status" is "ok"."""
    site = _Site(links, companies, health, https=base_url.startswith("https:"))
    app = Starlette(
        routes=[
            Route("/r/{token}", site.candidate, methods=["GET"]),
            Route("/c/{company}", site.company, methods=["GET"]),
            Route("/stop/{token}", site.stop, methods=["GET", "POST"]),
            Route("/healthz", site.healthz, methods=["GET"]),
        ],
        middleware=[Middleware(_Fields, fields=site.fields)],
        exception_handlers={HTTPException: site.refusal, Exception: site.trouble},
    )
    app.router.redirect_slashes = False  # such a redirect is built from the Host field
    return app


class _Page(Protocol):
    """Makes a candidate's page; `otherwise` is the language where the reader's browser asks for none of ours."""

    def __call__(self, request: Request, company: Company, *, otherwise: Language) -> Response: ...


class _Site:
    def __init__(
        self,
        links: Links,
        companies: Mapping[str, Company],
        health: Callable[[], Mapping[str, object]],
        *,
        https: bool,
    ) -> None:
        self._links = links
        self._companies = companies
        self._health = health
        style = resources.files("relay_mta.web").joinpath("static/page.css").read_text(encoding="utf-8")
        self._templates = Environment(
            loader=PackageLoader("relay_mta.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            auto_reload=False,
        )
        self._templates.globals["style"] = Markup(style)  # noqa: S704  our own file, no one's input
        self.fields = _protecting_fields(style, https=https)

    async def candidate(self, request: Request) -> Response:
        return await self._of_candidate(request, self._offer)

    async def stop(self, request: Request) -> Response:
        """Asks, and where the answer is sent back (POST), does: it is the candidate's last word to this company."""
        if request.method != "POST":
            return await self._of_candidate(request, self._asks)
        token = request.path_params["token"]
        try:
            async with asyncio.timeout(_LOOKUP_SECONDS):
                if len(token) <= _LONGEST_TOKEN:
                    await self._links.suppress(token)
        except (LedgerError, TimeoutError):
            return self._notice(request, "later", 503)
        return await self._of_candidate(request, self._has_stopped)  # an unknown token is the same 404 as elsewhere

    async def _of_candidate(self, request: Request, page: _Page) -> Response:
        """The page of the token in the path, or the notice that stands in its place."""
        token = request.path_params["token"]
        try:
            async with asyncio.timeout(_LOOKUP_SECONDS):
                target = await self._links.by_token(token) if len(token) <= _LONGEST_TOKEN else None
        except (LedgerError, TimeoutError):
            return self._notice(request, "later", 503)
        company = self._companies.get(target.company) if target is not None else None
        if target is None or company is None:
            return self._notice(request, "not_found", 404)
        return page(request, company, otherwise="en" if target.language == "en" else "ja")

    async def company(self, request: Request) -> Response:
        company = self._companies.get(request.path_params["company"])
        if company is None:
            return self._notice(request, "not_found", 404)
        return self._offer(request, company, otherwise="ja")

    async def healthz(self, request: Request) -> Response:
        try:
            state = dict(self._health())
        except Exception:  # whatever it is: the answer to "are you well?" is no
            state = {"status": "error"}
        return JSONResponse(state, 200 if state.get("status") == "ok" else 503)

    async def refusal(self, request: Request, error: Exception) -> Response:
        """What Starlette refuses by itself: no such path, no such method."""
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return self._notice(request, "not_found", 404)
        return PlainTextResponse(f"{error.detail}\n", error.status_code, headers=error.headers)

    async def trouble(self, request: Request, error: Exception) -> Response:
        """An exception of ours. Starlette answers outside of the middleware, and raises it again for the log."""
        response = self._notice(request, "later", 500)
        response.headers.update(self.fields)
        return response

    def _offer(self, request: Request, company: Company, *, otherwise: Language) -> Response:
        return self._page(
            "offer",
            _language(request, otherwise=otherwise),
            200,
            company=presentable(company.name),
            agency=presentable(company.agency.name),
            agency_url=company.agency.url if company.agency.url.startswith(("https://", "http://")) else "",
            agency_host=urlsplit(company.agency.url).hostname or "",
        )

    def _asks(self, request: Request, company: Company, *, otherwise: Language) -> Response:
        return self._page("stop", _language(request, otherwise=otherwise), 200, company=presentable(company.name))

    def _has_stopped(self, request: Request, company: Company, *, otherwise: Language) -> Response:
        return self._page("stopped", _language(request, otherwise=otherwise), 200, company=presentable(company.name))

    def _notice(self, request: Request, name: str, status: int) -> Response:
        response = self._page(name, _language(request, otherwise="ja"), status)
        if status == 503:
            response.headers["retry-after"] = "120"
        return response

    def _page(self, name: str, language: Language, status: int, **values: str) -> Response:
        page = self._templates.get_template(f"{language}/{name}.html").render(language=language, **values)
        headers = {"content-language": language, "vary": "accept-language"}
        return HTMLResponse(page, status, headers=headers)


def presentable(name: str) -> str:
    """A name as it may stand on a page: no control, formatting or bidi characters, spaces single, of bounded length."""
    kept = (" " if char.isspace() else char for char in name if char.isspace() or unicodedata.category(char)[0] != "C")
    text = " ".join("".join(kept).split())
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"


def _language(request: Request, *, otherwise: Language) -> Language:
    asked = request.query_params.get("lang")
    if asked in ("ja", "en"):
        return "en" if asked == "en" else "ja"
    return preferred(request.headers.get("accept-language", ""), otherwise=otherwise)


def _protecting_fields(style: str, *, https: bool) -> dict[str, str]:
    """The fields that protect a reader; `style` is the one style sheet that stands inside the pages."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    fields = {
        "content-security-policy": f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "x-robots-tag": "noindex, nofollow",
        "cross-origin-opener-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
        "cache-control": "no-store",
    }
    if https:
        fields["strict-transport-security"] = "max-age=31536000"
    return fields


class _Fields:
    """Puts header fields on every response, refusals included."""

    def __init__(self, app: ASGIApp, fields: Mapping[str, str]) -> None:
        self._app = app
        self._fields = fields

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_fields(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._fields)
            await send(message)

        await self._app(scope, receive, send_with_fields)


# --- serving --------------------------------------------------------------------------------------------------------


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """SIGTERM and SIGINT are the application's: it drains the mails first."""
        yield


class WebServer:
    """A running web server. `port` is the one that is really listened on."""

    def __init__(self, server: uvicorn.Server, task: asyncio.Task[None], port: int) -> None:
        self._server = server
        self._task = task
        self.port = port

    async def stop(self) -> None:
        """Finish the requests in flight, within a few seconds, and close the port. May be called twice."""
        self._server.should_exit = True
        await asyncio.wait([self._task])


async def serve_web(app: ASGIApp, host: str, port: int) -> WebServer:
    """Listen on `host` and `port` (0: any free port) and serve. Raises `RelayError` if the port cannot be had."""
    listening = await _listen(host, port)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,  # it would hold tokens
        server_header=False,
        proxy_headers=False,  # nothing here reads the client's address
        limit_concurrency=500,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=16 << 10,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]), name="web")
    while not server.started and not task.done():  # noqa: ASYNC110  uvicorn has no event for it
        await asyncio.sleep(0.005)
    if task.done():
        listening.close()
        await task
        raise RelayError(f"{_place(host, port)}: the web could not start here")
    return WebServer(server, task, listening.getsockname()[1])


async def _listen(host: str, port: int) -> socket.socket:
    """One listening socket, made here because uvicorn would end the process over a port in use."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise RelayError(f"{_place(host, port)}: cannot listen for the web here: {error.strerror or error}") from None
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise RelayError(f"{_place(host, port)}: cannot listen for the web here: {error.strerror or error}") from None
    return listening


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
