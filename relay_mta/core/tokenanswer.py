"""What a token endpoint answers (RFC 6749 §5): an access token, or why there is none, said for the operator.

The token endpoints of Microsoft Entra ID and of Google say their reasons in different ways: Entra by numbers
(`error_codes`, and "AADSTS7000222: …" at the head of `error_description`), Google by `error` and the wording of
`error_description`. Both are only ever compared, never quoted: a description may hold addresses and identifiers. What
goes into a text are the codes that this module knows, Entra's numbers, the HTTP status, and our own words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from relay_mta.core.errors import LoginError

UNTOLD_SECONDS = 300.0
"""How long a token is taken to last whose answer does not say it, or not sensibly (RFC 6749 §5.1: RECOMMENDED)."""
LONGEST_SECONDS = 24 * 3600.0

# RFC 6750 §2.1 has fewer characters still; no control character may get into SASL's XOAUTH2 line, which has them as
# separators.
_TOKEN = re.compile(r"[\x21-\x7e]+")
_ENTRA_CODE = re.compile(r"\bAADSTS(\d{4,8})\b")


@dataclass(frozen=True, slots=True)
class Issued:
    """An access token and for how many seconds it holds, counted from when it was asked for."""

    token: str = field(repr=False)
    seconds: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error answer, taken apart. `codes` are Entra's numbers; nothing of it may be shown as it is."""

    error: str
    description: str
    codes: tuple[int, ...]


Advisor = Callable[[Refusal], str | None]
"""A provider's knowledge: what to do about a refusal, with its code in front; None if it does not know it."""


def read(status: int, body: bytes, advisor: Advisor) -> Issued:
    """The token of an answer. Raises `LoginError`."""
    if status == 200:
        return _issued(_object(body))
    if 300 <= status < 400:
        raise LoginError(f"answered with a redirect (HTTP {status}), which is not followed: correct the token URL")
    try:
        found = _object(body)
    except LoginError:
        found = {}
    refusal = Refusal(_text(found, "error"), _text(found, "error_description"), _codes(found))
    if status == 429 or status >= 500 or _passing(refusal):
        reason = "too many requests" if status == 429 else "trouble on its side"
        raise LoginError(f"{reason} (HTTP {status}): temporary, and asked again at a later mail")
    raise LoginError(advisor(refusal) or _unknown(status, refusal))


def _object(body: bytes) -> Mapping[str, object]:
    # The Content-Type is not looked at: proxies in between get it wrong, and what counts is whether this can be read.
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise LoginError("its answer is no JSON object: is this a token endpoint?")
    return found


def _issued(found: Mapping[str, object]) -> Issued:
    token = _text(found, "access_token")
    if not _TOKEN.fullmatch(token):
        raise LoginError("its answer has no access_token that could be used: is this a token endpoint?")
    if _text(found, "token_type").lower() != "bearer":  # RFC 6749 §5.1: required, and of either case
        raise LoginError("its answer's token_type is not Bearer, the only one that XOAUTH2 can carry")
    return Issued(token, _seconds(found.get("expires_in")))


def _seconds(value: object) -> float:
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII):  # as Entra's first version wrote it
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return UNTOLD_SECONDS
    return float(min(value, LONGEST_SECONDS))


def _text(found: Mapping[str, object], name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) else ""


def _codes(found: Mapping[str, object]) -> tuple[int, ...]:
    listed = found.get("error_codes")
    codes = [code for code in listed if type(code) is int and 0 < code < 10**8] if isinstance(listed, list) else []
    return tuple(codes) or tuple(int(code) for code in _ENTRA_CODE.findall(_text(found, "error_description")))


# --- what the codes mean --------------------------------------------------------------------------------------------

# RFC 6749 §5.2, RFC 7521 §4.1, and what Google adds to them.
_ERRORS = frozenset(
    {"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type"}
    | {"invalid_scope", "access_denied", "admin_policy_enforced", "deleted_client", "disabled_client", "org_internal"}
)
_PASSING_ERRORS = frozenset({"temporarily_unavailable", "server_error", "internal_failure"})
# learn.microsoft.com/entra/identity-platform/reference-error-codes: retryable, timed out, throttled, client in a loop.
_PASSING_CODES = frozenset({50196, 90006, 90012, 90024, 90033, 90055, 90090})


def _passing(refusal: Refusal) -> bool:
    return refusal.error in _PASSING_ERRORS or not _PASSING_CODES.isdisjoint(refusal.codes)


def _unknown(status: int, refusal: Refusal) -> str:
    if refusal.error in _ERRORS:
        return f"refused with {refusal.error} (HTTP {status}): compare the settings with those at the provider"
    if status == 404:
        return "there is no token endpoint at this address (HTTP 404): correct the token URL"
    return f"refused with HTTP {status} and no code that is known: is this a token endpoint?"


_NEW_ONE = "make one in Entra (App registrations, Certificates & secrets) and give the relay its value, not its ID"
_TENANT = "correct the tenant: the directory's ID or one of its domains (Entra, Overview)"
_CONSENT = (
    "give it the application permission SMTP.SendAsApp of Office 365 Exchange Online, and admin consent "
    "(App registrations, API permissions)"
)
_BLOCKED = "see the service principal's sign-ins in Entra and exclude the application or allow this host's address"
_DISABLED = "enable sign-in for it (Enterprise applications, Properties)"
_UNKNOWN_APP = "correct the client ID, or the tenant in which the application is registered"

# From the same page, as far as a client with a secret of its own can meet them.
_ENTRA = {
    7000215: f"the client secret is wrong: {_NEW_ONE}",
    7000222: f"the client secret has expired: {_NEW_ONE}",
    7000216: f"there is no client secret: {_NEW_ONE}",
    7000218: f"there is no client secret: {_NEW_ONE}",
    70002: f"the client secret is wrong: {_NEW_ONE}",
    700016: f"the application is unknown in this tenant: {_UNKNOWN_APP}",
    700011: f"the application is unknown in this tenant: {_UNKNOWN_APP}",
    90002: f"the tenant is unknown: {_TENANT}",
    900023: f"the tenant is none: {_TENANT}",
    50059: f"the tenant is missing: {_TENANT}",
    50128: f"the tenant is missing: {_TENANT}",
    50194: f"the application belongs to one tenant: {_TENANT}",
    9001023: f"the application belongs to one tenant: {_TENANT}",
    90038: "the tenant is in a national cloud: set that cloud's token URL",
    65001: f"consent for the application is missing: {_CONSENT}",
    650057: f"the application does not ask for Exchange: {_CONSENT}",
    7000229: "the application has no service principal in this tenant: give it admin consent there",
    500011: "Office 365 Exchange Online is unknown in this tenant: it needs an Exchange Online licence, and consent",
    650052: "the tenant has no Exchange Online: it needs a licence for it",
    70011: "the scope is not known there: set the token URL of the cloud that the tenant is in",
    53003: f"a Conditional Access policy blocks the application: {_BLOCKED}",
    50131: f"a Conditional Access policy blocks the application: {_BLOCKED}",
    530035: f"the security defaults block the application: {_BLOCKED}",
    7000112: f"the application is disabled: {_DISABLED}",
    70001: f"the application is disabled or unknown: {_DISABLED}",
    700025: "the application is a public client, which has no secret: register it as a confidential one",
}


def microsoft(refusal: Refusal) -> str | None:
    """What to do about a refusal by Microsoft Entra ID, for a client with a secret."""
    for code in refusal.codes:
        if code in _ENTRA:
            return f"AADSTS{code}: {_ENTRA[code]}"
    if refusal.codes:
        code = refusal.codes[0]
        return f"refused with AADSTS{code}: login.microsoftonline.com/error?code={code} says what it means"
    return None


_DELEGATION = (
    "in the Admin console (Security, API controls, Domain-wide delegation) enter the service account's numeric client "
    "ID with the scope https://mail.google.com/; it can take 24 hours"
)
_KEY = "make a new key for the service account and give the relay its JSON file"

# developers.google.com/identity/protocols/oauth2/service-account, "JWT error codes": (error, words of the description
# in lower case or "" for any) → what to do. The first that fits counts.
_GOOGLE = (
    ("invalid_grant", "invalid jwt signature", f"the key was deleted, or is another account's: {_KEY}"),
    ("invalid_grant", "short-lived token", "this machine's clock is wrong: set it by NTP"),
    ("invalid_grant", "reasonable timeframe", "this machine's clock is wrong: set it by NTP"),
    ("invalid_grant", "account not found", "the service account was deleted or disabled: restore it, or use another"),
    ("invalid_grant", "no valid verifier", f"the service account has no such key or does not exist: {_KEY}"),
    ("invalid_grant", "email", "the mailbox that the relay logs in as does not exist: correct its address"),
    ("invalid_request", "impersonation", "the mailbox that the relay logs in as is no address: correct it"),
    ("unauthorized_client", "", f"domain-wide delegation is missing or lacks the scope: {_DELEGATION}"),
    ("access_denied", "", f"domain-wide delegation lacks the scope: {_DELEGATION}"),
    (
        "admin_policy_enforced",
        "",
        "a policy of the organisation forbids the scope: trust the client ID in API controls",
    ),
    ("invalid_client", "", f"the service account is unknown: {_KEY}"),
    ("deleted_client", "", f"the service account's client was deleted: restore it, or {_KEY}"),
    ("disabled_client", "", "the service account or its key is disabled: enable it (IAM & Admin, Service accounts)"),
    (
        "org_internal",
        "",
        "the service account is for its own organisation alone: use one of the mailbox's organisation",
    ),
)


def google(refusal: Refusal) -> str | None:
    """What to do about a refusal by Google, for a service account with domain-wide delegation."""
    description = refusal.description.lower()
    for error, words, advice in _GOOGLE:
        if refusal.error == error and words in description:
            return f"{error}: {advice}"
    return None
