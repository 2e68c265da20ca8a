"""What an operator can do when an upstream refuses our login (SMTP AUTH, RFC 4954).

The replies of Exchange Online and Gmail name a switch somewhere in an admin console, in words that help only those who
know it. These hints say which. A reply's words are compared, never quoted: the hint goes to the log.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Known:
    """A refusal that is known, by words of its text in lower case, its code and its enhanced code; "" and 0 fit any."""

    advice: str
    words: str = ""
    code: int = 0
    enhanced: str = ""

    def fits(self, code: int, enhanced: str, text: str) -> bool:
        return self.words in text and self.code in (0, code) and self.enhanced in ("", enhanced)


_OFF = "SMTP AUTH is switched off for the whole tenant in Exchange Online"
_OFF_MAILBOX = "SMTP AUTH is switched off for this mailbox in Exchange Online"
_ALLOW_MAILBOX = "Set-CASMailbox -Identity MAILBOX -SmtpClientAuthenticationDisabled $false"
_USE_OAUTH = "log in by OAuth"
_MAKE_ONE = "make an app password (Google Account, Security, 2-Step Verification) and log in with that, or by OAuth"
_IN_A_BROWSER = (
    "Google finds this login suspicious: log in to the account in a browser once, if possible from this network, or "
    f"{_MAKE_ONE}"
)
_NEEDS_TLS = "the upstream takes logins only under TLS: set its tls to starttls or implicit"

# The first that fits counts, words before codes: Exchange puts its 535 into the text of a later 530, and Gmail writes
# the enhanced code before each line of a text. Sources: learn.microsoft.com, "Fix issues with printers, scanners, and
# LOB applications that send email using Microsoft 365", and the pages that it leads to; support.google.com, "Gmail SMTP
# errors and codes"; replies that administrators have published. As a rule they stay the same for years, but nobody
# promises them.
_KNOWN = (
    _Known(
        f"{_OFF}: Set-TransportConfig -SmtpClientAuthenticationDisabled $false, or for this mailbox alone "
        f"{_ALLOW_MAILBOX}",
        "smtpclientauthentication is disabled for the tenant",
    ),
    _Known(f"{_OFF_MAILBOX}: {_ALLOW_MAILBOX}", "smtpclientauthentication is disabled for the mailbox"),
    _Known(f"SMTP AUTH is switched off in Exchange Online: {_ALLOW_MAILBOX}", "smtpclientauthentication is disabled"),
    _Known(f"Exchange Online takes no passwords here: {_USE_OAUTH}", "basic authentication is disabled"),
    _Known(f"Exchange Online takes no passwords here: {_USE_OAUTH}", "basic authentication is not supported"),
    _Known(f"the tenant's security defaults forbid logins with a password: {_USE_OAUTH}", "security defaults"),
    _Known(
        "the account is locked, as after many wrong passwords: correct the password, then unlock the account or wait",
        "account locked",
    ),
    _Known(
        "the user name or the password is wrong, or the account has multi-factor authentication, which no password "
        f"passes: correct them, or {_USE_OAUTH}",
        "user credentials were incorrect",
        enhanced="5.7.139",
    ),
    _Known(
        "Exchange Online did not like the login as a whole: look into the account's sign-ins in Entra (password, "
        f"multi-factor authentication, Conditional Access), and check that SMTP AUTH is on: {_ALLOW_MAILBOX}",
        "did not meet the criteria",
    ),
    _Known(
        "the tenant's federation server, which checks this account's password, does not answer or has no current TLS: "
        f"mend it, or {_USE_OAUTH}",
        "federated sts",
    ),
    _Known(
        "Exchange Online refuses this login by a policy: look into the account's sign-ins in Entra, and check that "
        f"SMTP AUTH is on: {_ALLOW_MAILBOX}",
        enhanced="5.7.139",
    ),
    _Known(
        "Exchange Online refuses this login. By OAuth: give the application the permission SMTP.SendAsApp with admin "
        "consent, register its service principal (New-ServicePrincipal with the object ID of the enterprise "
        "application, not of the registration), and let it into the mailbox (Add-MailboxPermission -AccessRights "
        "FullAccess); it can take an hour. With a password: it is wrong, or passwords or SMTP AUTH are switched off",
        "authentication unsuccessful",
        enhanced="5.7.3",
    ),
    _Known(
        "Exchange Online wants a login before mail: configure one for this upstream, or send through a connector",
        enhanced="5.7.57",
    ),
    _Known(f"Google wants an app password for this account: {_MAKE_ONE}", "application-specific password required"),
    _Known(_IN_A_BROWSER, "web browser", code=534),
    _Known(_IN_A_BROWSER, code=534, enhanced="5.7.14"),
    _Known(
        "Google refuses this login. With a password: the user name or the password is wrong, or it is the account's "
        f"own: {_MAKE_ONE}. By OAuth: the token is not for this mailbox, or Gmail is switched off for it",
        "username and password not accepted",
        enhanced="5.7.8",
    ),
    _Known(_NEEDS_TLS, "starttls"),
    _Known(_NEEDS_TLS, code=538),
    _Known("the upstream wants a login before mail, and none was made: configure one for it", code=530),
    _Known("the upstream does not offer this way of logging in: choose another", code=504),
    _Known("the upstream finds this way of logging in too weak: choose another, or turn on TLS", code=534),
    _Known("the user name or the password is wrong, or the token is not for this account", code=535),
)


def advice(code: int, enhanced: str, text: str) -> str:
    """One line on what to do about the refusal of a login: a reply's code, enhanced code and whole text
    (`Reply.code`, `.enhanced`, `.text`). It quotes nothing; of a reply that nobody knows it says that."""
    if code // 100 == 4:
        # RFC 4954 §6 has 454 for it; Gmail says "too many login attempts" by it, Exchange limits sessions by 432.
        return "temporary: tried again at a later mail; if it stays, the upstream is in trouble or limits our logins"
    lowered = text.lower()
    for known in _KNOWN:
        if known.fits(code, enhanced, lowered):
            return known.advice
    return "the reason is not one that is known here: look up the code in the upstream's documentation"
