"""A token endpoint on loopback that looks at what it gets as Entra ID and Google do, and misbehaves when told to.

    async with OAuthServer() as server:            # or `with`: it serves from threads of its own
        MicrosoftTokens(tenant=server.tenant, client_id=server.client_id, secret=lambda: server.secret,
                        token_url=server.url)
        GoogleTokens(account=server.account, subject=server.subject, token_url=server.url)
        ... server.issued                          # the tokens that are valid now
        server.faults.add("AADSTS7000222")         # every answer from here on, until it is removed again

One URL serves both grants. A wrong secret, key, clock, mailbox … is refused as the real one would refuse it; `faults`
are for what cannot be brought about from outside: "AADSTS" and a number, a key of `GOOGLE_FAULTS`, an HTTP status, or
one of the names in `_Handler._misbehave` and `_Handler._token`.
"""

from __future__ import annotations

import functools
import gzip
import json
import secrets
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

AUDIENCE = "https://oauth2.googleapis.com/token"
CLIENT_CREDENTIALS = {"grant_type", "client_id", "client_secret", "scope"}
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CANARY = "words-of-the-server"
"""Stands in every error that can hold it: nobody may repeat it."""

GOOGLE_FAULTS = {
    "account-not-found": (400, "invalid_grant", "Invalid grant: account not found"),
    "no-verifier": (400, "invalid_grant", "Invalid JWT: No valid verifier found for issuer."),
    "no-email": (400, "invalid_grant", "Not a valid email."),
    "impersonation": (400, "invalid_request", "Invalid impersonation prn email address."),
    "invalid-grant": (400, "invalid_grant", f"Bad Request {CANARY}"),
    "unauthorized-client": (401, "unauthorized_client", f"Unauthorized client or scope in request. {CANARY}"),
    "access-denied": (403, "access_denied", CANARY),
    "admin-policy": (403, "admin_policy_enforced", CANARY),
    "invalid-client": (401, "invalid_client", CANARY),
    "deleted-client": (401, "deleted_client", CANARY),
    "disabled-client": (401, "disabled_client", CANARY),
    "org-internal": (403, "org_internal", CANARY),
    "unheard-of": (400, CANARY, CANARY),
    "temporarily-unavailable": (400, "temporarily_unavailable", CANARY),
}


@functools.cache
def key() -> RSAPrivateKey:
    """The service account's key; made once, because that takes long."""
    return generate_private_key(public_exponent=65537, key_size=2048)


def pem(private: RSAPrivateKey) -> str:
    """A key as a service account's file has it."""
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass(frozen=True)
class Received:
    """One request. `form` has each field once, `claims` is what the assertion said, if it was one and was read."""

    path: str
    headers: dict[str, str]
    form: dict[str, str]
    claims: dict[str, Any]


class OAuthServer:
    """See the module. `requests` are all that came, in order; `expires_in` is what an answer says (None: nothing),
    `delay` how many seconds it takes."""

    tenant = "11111111-2222-3333-4444-555555555555"
    client_id = "66666666-7777-8888-9999-000000000000"
    subject = "recruiting@acme.example"
    email = "relay@project.iam.gserviceaccount.com"
    key_id = "0123456789abcdef"

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.secret = f"secret~{secrets.token_urlsafe(16)}"
        self.faults: set[str] = set()
        self.expires_in: object = 3599
        self.delay = 0.0
        self.requests: list[Received] = []
        self.ending = threading.Event()
        self._valid: dict[str, float] = {}
        self._tls = tls
        self._server = _Server(self, tls)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        """The port on 127.0.0.1 that is listened on."""
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        """The token endpoint."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/token"

    @property
    def issued(self) -> set[str]:
        """The tokens that are valid now."""
        now = time.monotonic()
        return {token for token, end in list(self._valid.items()) if now < end}

    def revoke(self) -> None:
        """From now on no token issued so far is valid."""
        self._valid.clear()

    def account(self, **changes: object) -> bytes:
        """The service account's JSON key file; a change to None takes the field out."""
        fields: dict[str, object] = {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": self.key_id,
            "private_key": pem(key()),
            "client_email": self.email,
            "client_id": "100000000000000000001",
            "token_uri": AUDIENCE,
        } | changes
        return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()

    def issue(self) -> str:
        """A new token, valid for `expires_in` seconds where that is a number."""
        token = f"token.{secrets.token_urlsafe(32)}"
        lifetime = self.expires_in if isinstance(self.expires_in, int | float) else 3599
        self._valid[token] = time.monotonic() + lifetime
        return token

    def __enter__(self) -> OAuthServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ending.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    async def __aenter__(self) -> OAuthServer:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, oauth: OAuthServer, tls: ssl.SSLContext | None) -> None:
        self.oauth = oauth
        self.tls = tls
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self.tls is not None:  # the handshake is made at the first read, in the connection's own thread
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust us, or has gone: it is its test that looks into that."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go in two writes
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests look at `requests`."""

    def do_GET(self) -> None:
        """A redirect that was followed."""
        self.server.oauth.requests.append(Received(self.path, dict(self.headers), {}, {}))
        self._json(200, {"access_token": "of-a-redirect", "token_type": "Bearer", "expires_in": 3599})

    def do_POST(self) -> None:
        """A token request (RFC 6749 §4.4.2, RFC 7523 §2.1)."""
        oauth = self.server.oauth
        body = self.rfile.read(int(self.headers["Content-Length"])).decode("ascii")
        fields = parse_qsl(body, keep_blank_values=True, strict_parsing=True)
        form = dict(fields)
        claims: dict[str, Any] = {}
        if "assertion" in form:
            claims = jwt.decode(form["assertion"], options={"verify_signature": False})
        oauth.requests.append(Received(self.path, dict(self.headers), form, claims))
        if oauth.delay:
            oauth.ending.wait(oauth.delay)
        if self.headers["Content-Type"] != "application/x-www-form-urlencoded" or len(fields) != len(form):
            self._refuse(400, "invalid_request", "not a form, or a field twice")
        elif not self._misbehave():
            if form.get("grant_type") == "client_credentials":
                self._client_credentials(form)
            elif form.get("grant_type") == JWT_BEARER:
                self._assertion(form)
            else:
                self._refuse(400, "unsupported_grant_type", CANARY)

    # --- what is looked at ------------------------------------------------------------------------------------------

    def _client_credentials(self, form: dict[str, str]) -> None:
        oauth = self.server.oauth
        if form.keys() != CLIENT_CREDENTIALS:
            self._entra(900144)
        elif form["scope"] != "https://outlook.office365.com/.default":
            self._entra(70011)
        elif form["client_id"] != oauth.client_id:
            self._entra(700016)
        elif form["client_secret"] != oauth.secret:
            self._entra(7000215)
        else:
            self._token()

    def _assertion(self, form: dict[str, str]) -> None:
        oauth = self.server.oauth
        if form.keys() != {"grant_type", "assertion"}:
            return self._refuse(400, "invalid_request", "fields")
        try:
            header = jwt.get_unverified_header(form["assertion"])
            claims = jwt.decode(
                form["assertion"],
                key().public_key(),
                algorithms=["RS256"],
                audience=AUDIENCE,
                issuer=oauth.email,
                options={"require": ["iss", "sub", "aud", "scope", "iat", "exp"]},
                leeway=300,
            )
        except jwt.InvalidSignatureError:
            return self._refuse(400, "invalid_grant", "Invalid JWT Signature.")
        except (jwt.ImmatureSignatureError, jwt.ExpiredSignatureError):
            return self._short_lived()
        except jwt.InvalidTokenError as error:
            return self._refuse(400, "invalid_grant", f"Invalid JWT: {error}")
        if not 0 < claims["exp"] - claims["iat"] <= 3600 or abs(time.time() - claims["iat"]) > 300:
            return self._short_lived()
        if header.get("kid") not in (None, oauth.key_id):
            return self._refuse(400, "invalid_grant", "Invalid JWT Signature.")
        if claims["scope"] != "https://mail.google.com/":
            return self._refuse(401, "unauthorized_client", "scopes")
        if claims["sub"] != oauth.subject:
            return self._refuse(400, "invalid_grant", "Invalid email or User ID")
        return self._token()

    def _short_lived(self) -> None:
        text = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
        self._refuse(400, "invalid_grant", text)

    # --- answers ----------------------------------------------------------------------------------------------------

    def _token(self) -> None:
        oauth, faults = self.server.oauth, self.server.oauth.faults
        answer: dict[str, object] = {"token_type": "Bearer", "expires_in": oauth.expires_in, "ext_expires_in": 3599}
        if oauth.expires_in is None:
            del answer["expires_in"]
        answer["access_token"] = oauth.issue()
        if "no-token" in faults:
            del answer["access_token"]
        if "token-with-separator" in faults:
            answer["access_token"] = "a\x01auth=Bearer b"
        if "token-of-no-type" in faults:
            del answer["token_type"]
        if "token-of-another-type" in faults:
            answer["token_type"] = "mac"
        if "type-in-lower-case" in faults:
            answer["token_type"] = "bearer"
        self._json(200, answer, content_type="text/html" if "content-type" in faults else "application/json")

    def _misbehave(self) -> bool:
        """Answer as a fault says; False if none of them is for here."""
        oauth, faults = self.server.oauth, self.server.oauth.faults
        for fault in faults:
            if fault.startswith("AADSTS"):
                self._entra(int(fault.removeprefix("AADSTS")))
                return True
            if fault in GOOGLE_FAULTS:
                self._refuse(*GOOGLE_FAULTS[fault])
                return True
            if fault.isdigit():
                self._say(int(fault), f"<p>{CANARY}".encode(), content_type="text/html")
                return True
        if "entra-without-numbers" in faults:
            self._refuse(401, "invalid_client", f"AADSTS7000222: {CANARY}")
        elif "garbage" in faults:
            self._say(200, f"<html>{CANARY}".encode(), content_type="text/html")
        elif "array" in faults:
            self._say(200, b"[]")
        elif "deep" in faults:
            self._say(200, b"[" * 60_000)
        elif "bomb" in faults:
            self._say(200, gzip.compress(b" " * (50 << 20)), encoding="gzip")
        elif "huge" in faults:
            self._say(200, json.dumps({"access_token": "x", "token_type": "Bearer", "y": "y" * (64 << 10)}).encode())
        elif "endless" in faults:
            self._head(200, length=1 << 40)
            while not oauth.ending.is_set():
                self.wfile.write(b" " * 65536)
        elif "slow" in faults:
            oauth.ending.wait()
        elif "drip" in faults:
            self._head(200, length=10_000)
            while not oauth.ending.wait(0.05):
                self.wfile.write(b" ")
        elif "drop" in faults:
            self.close_connection = True
        elif "cut-off" in faults:
            self._head(200, length=1000)
            self.wfile.write(b"{")
            self.close_connection = True
        elif "redirect" in faults:
            self._head(302, length=0, location=f"{oauth.url}/elsewhere")
        elif "redirect-post" in faults:
            self._head(307, length=0, location=f"{oauth.url}/elsewhere")
        else:
            return False
        return True

    def _entra(self, number: int) -> None:
        """An error as Entra ID words it, with an ID of its own and the time behind the text."""
        error: dict[str, object] = {
            "error": "invalid_client",
            "error_description": f"AADSTS{number}: {CANARY} '{self.server.oauth.client_id}'.\r\nTrace ID: 1",
            "error_codes": [number],
            "trace_id": "1",
        }
        self._json(401, error)

    def _refuse(self, status: int, error: str, description: str) -> None:
        self._json(status, {"error": error, "error_description": description})

    def _json(self, status: int, answer: Mapping[str, object], *, content_type: str = "application/json") -> None:
        self._say(status, json.dumps(answer).encode(), content_type=content_type)

    def _say(
        self, status: int, body: bytes, *, content_type: str = "application/json", encoding: str | None = None
    ) -> None:
        self._head(status, length=len(body), content_type=content_type, encoding=encoding)
        self.wfile.write(body)

    def _head(
        self,
        status: int,
        *,
        length: int,
        content_type: str = "application/json",
        encoding: str | None = None,
        location: str | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-store")  # RFC 6749 §5.1
        if encoding is not None:
            self.send_header("Content-Encoding", encoding)
        if location is not None:
            self.send_header("Location", location)
        self.end_headers()
