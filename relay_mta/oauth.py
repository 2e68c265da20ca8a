"""Access tokens for our own login at an upstream (SMTP AUTH XOAUTH2): from Microsoft Entra ID and from Google.

`MicrosoftTokens` is an application with a secret (RFC 6749 §4.4), `GoogleTokens` a service account with domain-wide
delegation, which signs for itself (RFC 7523 §2.1). Each serves all sessions to one upstream, in one event loop, and
keeps one token in memory, nowhere else:

* It is renewed five minutes before its end, or halfway through if it does not last ten. One request at a time; whoever
  comes meanwhile waits for its result. If renewing fails or is slow, the old token serves until its end.
* After a failed request there is none for some seconds: mails that come in then fail, if they have no token, for the
  reason that is already known.
* A request takes ten seconds at most, all in all, and 64 KiB. Redirects are not followed: the secret goes to the
  configured endpoint or nowhere. That is https, verified against the system's authorities (or those in
  `SSL_CERT_FILE`, which OpenSSL reads), or plain http to this machine alone.
* `HTTPS_PROXY` and `NO_PROXY` are honoured: where mail servers may not reach the web on their own, administrators set
  these. The proxy sees the endpoint's name and nothing else. No other such variable is read, and no ~/.netrc.

httpx logs the URL of each request: one with a user, a password or a query, which may be a key, is not taken. All that
is secret travels in bodies, which nothing logs.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from relay_mta.core import tokenanswer
from relay_mta.core.errors import LoginError, RelayError
from relay_mta.core.ip import loopback
from relay_mta.core.tokenanswer import Advisor, Issued

MICROSOFT_URL = "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"
MICROSOFT_SCOPE = "https://outlook.office365.com/.default"
GOOGLE_SCOPE = "https://mail.google.com/"

MARGIN_SECONDS = 300.0
"""How long before its end a token is renewed: time for the endpoint to come back, should it be away."""
FETCH_SECONDS = 10.0
"""A client waits for its reply to MAIL meanwhile, for which RFC 5321 §4.5.3.2.2 gives us five minutes."""
PATIENCE_SECONDS = 2.0
"""How long a mail waits for a new token while the old one would do."""
FAILURE_SECONDS = 10.0
"""How long a failed request speaks for those that would follow it."""
REFUSED_SECONDS = 60.0
"""How long after a request for an upstream's refusal the next may be made for one."""
MOST_BYTES = 64 << 10
ASSERTION_SECONDS = 3600
"""Google's limit for the life of what a service account signs."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Request:
    """What is posted to a token endpoint."""

    url: httpx.URL
    form: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A token, and from when on it is renewed and no longer given out, by the clock."""

    token: str = field(repr=False)
    renewed: float
    expired: float


class _CachedTokens:
    """Fulfils `core.ports.Tokens` for one account. What differs between providers: `_request` and the `advisor`."""

    def __init__(self, advisor: Advisor, *, clock: Clock, timeout: float) -> None:
        self._advisor = advisor
        self._clock = clock
        self._timeout = timeout
        self._context = ssl.create_default_context()
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._kept: _Kept | None = None
        self._fetching: asyncio.Task[str | None] | None = None
        self._failure = ""
        self._quiet_until = float("-inf")
        self._refused = False
        self._refused_until = float("-inf")

    def _request(self) -> _Request:
        """The next request; reads files and signs, in a thread. Raises `RelayError`."""
        raise NotImplementedError

    async def token(self) -> str:
        """As `core.ports.Tokens.token`."""
        now = self._clock()
        kept = self._kept
        if self._fetching is None or self._fetching.done():
            anew = self._refused and now >= self._refused_until
            if kept is not None and now < kept.renewed and not anew:
                return kept.token
            if now < self._quiet_until:
                return self._old()
            if self._refused:
                self._refused_until = now + REFUSED_SECONDS
            self._fetching = asyncio.create_task(self._fetch(), name="token")
        fetching = self._fetching
        # Not awaited itself: a session that is given up must not take the others' request with it.
        if self._old_is_valid() and not self._refused:
            await asyncio.wait([fetching], timeout=PATIENCE_SECONDS)
            if not fetching.done() and self._old_is_valid():
                return self._old()
        await asyncio.wait([fetching])
        return fetching.result() or self._old()

    def refused(self) -> None:
        """As `core.ports.Tokens.refused`."""
        self._refused = True

    def _old_is_valid(self) -> bool:
        return self._kept is not None and self._clock() < self._kept.expired

    def _old(self) -> str:
        """The token that there is, or why there is none."""
        if self._kept is not None and self._old_is_valid():
            return self._kept.token
        raise LoginError(self._failure)

    async def _fetch(self) -> str | None:
        """A new token, which replaces the old one; None if there is none, for the reason that is noted."""
        asked = self._clock()
        try:
            issued = await self._ask()
        except LoginError as error:
            self._failure = str(error)
            self._quiet_until = self._clock() + FAILURE_SECONDS
            return None
        margin = min(MARGIN_SECONDS, issued.seconds / 2)
        self._kept = _Kept(issued.token, asked + issued.seconds - margin, asked + issued.seconds)
        self._refused = False
        return issued.token

    async def _ask(self) -> Issued:
        """One request and its answer, in time. Raises `LoginError`."""
        place = "the token request"
        try:
            async with asyncio.timeout(self._timeout):
                request = await asyncio.to_thread(self._request)
                place = request.url.host
                proxy = _proxy(request.url)
                if proxy is not None:
                    place += " through HTTPS_PROXY"
                status, body = await self._post(request, proxy)
            return tokenanswer.read(status, body, self._advisor)
        except TimeoutError:
            raise LoginError(f"{place}: no answer within {self._timeout:g} seconds: temporary, or a firewall") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # from None here and below: an HTTP library's exception holds the request, and that the secret.
            raise LoginError(f"{place}: {_reason(error)}") from None
        except LoginError as error:
            raise LoginError(f"{place}: {error}") from None
        except RelayError as error:
            raise LoginError(" ".join(str(error).splitlines())) from None

    async def _post(self, request: _Request, proxy: str | None) -> tuple[int, bytes]:
        """Status and body of the answer. Raises `LoginError` for a body that is too long, and httpx's errors."""
        # The body is read as it comes: a few compressed bytes could become any number of them.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "relay-mta"}
        body = bytearray()
        async with (
            httpx.AsyncClient(verify=self._context, proxy=proxy, trust_env=False, timeout=self._timeout) as client,
            client.stream("POST", request.url, data=request.form, headers=headers, follow_redirects=False) as response,
        ):
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise LoginError(f"its answer is longer than {MOST_BYTES} bytes: is this a token endpoint?")
            return response.status_code, bytes(body)


class MicrosoftTokens(_CachedTokens):
    """The tokens of an application in Entra ID, which Exchange Online lets into a mailbox.

    `tenant` is the directory's ID or a domain of it, `client_id` the application's, `secret` gives its client secret as
    it is sent; it is called before each request, in a thread, and may raise `RelayError`. `token_url` is for national
    clouds and proxies. Raises `RelayError` if that or `tenant` cannot be used.
    """

    def __init__(
        self,
        *,
        tenant: str,
        client_id: str,
        secret: Callable[[], str],
        token_url: str | None = None,
        clock: Clock = time.monotonic,
        timeout: float = FETCH_SECONDS,
    ) -> None:
        super().__init__(tokenanswer.microsoft, clock=clock, timeout=timeout)
        if not tenant or not set(tenant) <= _TENANT_CHARACTERS:
            raise RelayError("tenant: is neither a directory's ID nor a domain")
        self._url = _endpoint("token_url", token_url or MICROSOFT_URL.format(tenant=tenant))
        self._client_id = client_id
        self._secret = secret

    def _request(self) -> _Request:
        secret = self._secret()
        if not secret:
            raise RelayError("the client secret is empty")
        # RFC 6749 §2.3.1 would rather have the secret in a header; Entra documents it here.
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": secret,
            "scope": MICROSOFT_SCOPE,
        }
        return _Request(self._url, form)


class GoogleTokens(_CachedTokens):
    """The tokens of a service account with domain-wide delegation, for one mailbox of the domain.

    `account` gives the bytes of its JSON key file; it is called before each request, in a thread, and may raise
    `RelayError`. `subject` is the mailbox's address. `token_url` replaces the file's `token_uri` as the place to ask;
    what is signed stays addressed to the latter. `now` is the time of day, in seconds of the epoch. Raises `RelayError`
    if `token_url` cannot be used.
    """

    def __init__(
        self,
        *,
        account: Callable[[], bytes],
        subject: str,
        token_url: str | None = None,
        clock: Clock = time.monotonic,
        now: Clock = time.time,
        timeout: float = FETCH_SECONDS,
    ) -> None:
        super().__init__(tokenanswer.google, clock=clock, timeout=timeout)
        self._account = account
        self._subject = subject
        self._url = _endpoint("token_url", token_url) if token_url else None
        self._now = now

    def _request(self) -> _Request:
        account = _account(self._account())
        issued_at = int(self._now())
        claims = {  # RFC 7523 §3, with Google's `scope`
            "iss": account.email,
            "sub": self._subject,
            "aud": account.token_uri,
            "scope": GOOGLE_SCOPE,
            "iat": issued_at,
            "exp": issued_at + ASSERTION_SECONDS,
        }
        headers = {"kid": account.key_id} if account.key_id else None
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": jwt.encode(claims, account.key, algorithm="RS256", headers=headers),
        }
        return _Request(self._url or _endpoint(f"{_FILE}: token_uri", account.token_uri), form)


# --- a service account's file ---------------------------------------------------------------------------------------

_FILE = "the service account's key file"
_FIELDS = ("client_email", "private_key", "token_uri")


@dataclass(frozen=True, slots=True)
class _Account:
    """What a service account's JSON key file holds, as far as we need it; `key_id` may be ""."""

    email: str
    key: RSAPrivateKey = field(repr=False)
    key_id: str
    token_uri: str


def _account(raw: bytes) -> _Account:
    """Raises `RelayError`, which quotes nothing of the file."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RelayError(f"{_FILE} is no JSON object: it is the file that Google makes for a new key, of type JSON")
    lacking = [name for name in _FIELDS if not isinstance(found.get(name), str) or not found[name]]
    if lacking:
        raise RelayError(f"{_FILE} lacks {', '.join(lacking)}: is it a service account's, and not an OAuth client's?")
    try:
        key = load_pem_private_key(found["private_key"].encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise RelayError(
            f"{_FILE} has a private_key that is no RSA key in PEM: make a new key and take its file unchanged"
        )
    key_id = found.get("private_key_id")
    return _Account(found["client_email"], key, key_id if isinstance(key_id, str) else "", found["token_uri"])


# --- the way to an endpoint -----------------------------------------------------------------------------------------

_TENANT_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")


def _endpoint(name: str, url: str) -> httpx.URL:
    """A token endpoint's URL. Raises `RelayError`, which does not quote it: it may hold a password."""
    try:
        found = _url(url)
    except ValueError:
        raise RelayError(f"{name}: is no URL") from None
    if not found.host or found.scheme not in ("https", "http"):
        raise RelayError(f"{name}: is no https:// URL")
    if found.scheme == "http" and not loopback(found.host):
        raise RelayError(f"{name}: must be https://; http:// is for this machine alone (127.0.0.1, ::1, localhost)")
    if found.userinfo or found.query or found.fragment:
        raise RelayError(f"{name}: must have no user, password, query or fragment")
    return found


def _url(text: str) -> httpx.URL:
    """Raises `ValueError`."""
    urlsplit(text).port  # noqa: B018  finds brackets and ports that httpx would take
    try:
        return httpx.URL(text)
    except httpx.InvalidURL:
        raise ValueError("no URL") from None


def _proxy(url: httpx.URL) -> str | None:
    """The proxy for an endpoint. Raises `LoginError`, which does not quote it: it may hold a password."""
    proxies = urllib.request.getproxies_environment()
    proxy = proxies.get("https")
    if not proxy or loopback(url.host) or urllib.request.proxy_bypass(url.host, proxies):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        usable = _url(proxy).scheme in ("http", "https") and _url(proxy).host
    except ValueError:
        usable = False
    if not usable:
        raise LoginError("HTTPS_PROXY is no http:// or https:// URL: correct it, or name this host in NO_PROXY")
    return proxy


def _reason(error: BaseException) -> str:
    """What went wrong on the way, without the words of the other side."""
    if isinstance(error, httpx.ProxyError):
        return "the proxy did not let us through: correct HTTPS_PROXY, or name this host in NO_PROXY"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate was not accepted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {cause.reason or type(cause).__name__}"
        if isinstance(cause, socket.gaierror):
            return f"its name cannot be resolved: {cause.strerror}"
        if isinstance(cause, OSError) and cause.errno and isinstance(error, httpx.ConnectError):
            return f"cannot be reached: {os.strerror(cause.errno)}"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ConnectError):
        return "cannot be reached"
    if isinstance(error, httpx.TimeoutException):
        return "timed out: temporary, or a firewall"
    return f"the connection broke before its answer was whole ({type(error).__name__})"
