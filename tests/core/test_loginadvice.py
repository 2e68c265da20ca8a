"""The refusals of real servers, word for word but for host names, and which switch each hint names."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay_mta.core.loginadvice import advice
from relay_mta.core.reply import Reply

HOST = b"[TY1PR01CA0001.jpnprd01.prod.outlook.com 2026-08-28T19:45:50.437Z 08DF04C6D9A404E7]"
EXCHANGE = b"5.7.139 Authentication unsuccessful, "
REFUSALS = [
    (
        535,
        (
            EXCHANGE
            + b"SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled "
            + HOST,
        ),
        "Set-TransportConfig -SmtpClientAuthenticationDisabled $false",
    ),
    (
        535,
        (EXCHANGE + b"SmtpClientAuthentication is disabled for the Mailbox. " + HOST,),
        "this mailbox in Exchange Online: Set-CASMailbox -Identity MAILBOX -SmtpClientAuthenticationDisabled $false",
    ),
    (535, (EXCHANGE + b"SmtpClientAuthentication is disabled. " + HOST,), "Exchange Online: Set-CASMailbox"),
    (535, (EXCHANGE + b"basic authentication is disabled. " + HOST,), "takes no passwords here: log in by OAuth"),
    (550, (b"5.7.30 Basic authentication is not supported for Client Submission.",), "takes no passwords here"),
    (
        535,
        (
            EXCHANGE
            + b"user is locked by your organization's security defaults policy. Contact your administrator. "
            + HOST,
        ),
        "security defaults forbid",
    ),
    (535, (EXCHANGE + b"account locked. Contact your administrator. " + HOST,), "the account is locked"),
    (535, (EXCHANGE + b"the user credentials were incorrect. " + HOST,), "or the password is wrong"),
    (
        535,
        (
            EXCHANGE
            + b"the request did not meet the criteria to be authenticated successfully. Contact your administrator. ",
        ),
        "did not like the login as a whole",
    ),
    (535, (EXCHANGE + b"federated STS service was unreachable. " + HOST,), "federation server"),
    (535, (EXCHANGE + b"something new. " + HOST,), "by a policy"),
    (535, (b"5.7.3 Authentication unsuccessful " + HOST,), "SMTP.SendAsApp"),
    (530, (b"5.7.57 Client not authenticated to send mail. " + HOST,), "wants a login before mail: configure one"),
    (
        530,  # a later reply that holds the earlier one: the reason is that
        (
            b"5.7.57 Client not authenticated to send mail. Error: 535 5.7.139 Authentication unsuccessful, "
            b"SmtpClientAuthentication is disabled for the Tenant. " + HOST,
        ),
        "Set-TransportConfig",
    ),
    (
        535,
        (
            b"5.7.8 Username and Password not accepted. For more information, go to",
            b"5.7.8  https://support.google.com/mail/?p=BadCredentials lf4-2002 - gsmtp",
        ),
        "With a password: the user name or the password is wrong, or it is the account's own: make an app password",
    ),
    (
        534,
        (
            b"5.7.9 Application-specific password required. For more information, go to",
            b"5.7.9  https://support.google.com/mail/?p=InvalidSecondFactor - gsmtp",
        ),
        "Google wants an app password",
    ),
    (534, (b"5.7.9 Please log in with your web browser and then try again. - gsmtp",), "in a browser once"),
    (
        534,
        (
            b"5.7.14 <https://accounts.google.com/signin/continue?sarp=1> Please",
            b"5.7.14 log in via your web browser and then try again.",
        ),
        "in a browser once",
    ),
    (454, (b"4.7.0 Too many login attempts, please try again later. - gsmtp",), "temporary"),
    (454, (b"4.7.0 Temporary authentication failure: Connection lost to authentication server",), "temporary"),
    (432, (b"4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded " + HOST,), "temporary"),
    (421, (b"4.7.0 Basic authentication is disabled",), "temporary"),  # whatever it says: the code decides
    (530, (b"5.7.0 Must issue a STARTTLS command first. - gsmtp",), "set its tls to starttls"),
    (538, (b"5.7.11 Encryption required for requested authentication mechanism",), "set its tls to starttls"),
    (530, (b"5.7.0 Authentication required",), "none was made"),
    (504, (b"5.5.4 Unrecognized authentication type",), "does not offer this way"),
    (534, (b"5.7.9 Authentication mechanism is too weak",), "too weak: choose another"),
    (
        535,
        (b"5.7.8 Error: authentication failed: UGFzc3dvcmQ6",),
        "the user name or the password is wrong, or the token",
    ),
    (535, (b"no",), "the user name or the password is wrong, or the token"),
    (554, (b"5.7.1 go away",), "not one that is known here"),
    (250, (b"ok",), "not one that is known here"),
]


@pytest.mark.parametrize(
    ("code", "lines", "says"), REFUSALS, ids=lambda value: value if isinstance(value, str) else None
)
def test_what_a_server_says_becomes_what_to_do(code: int, lines: tuple[bytes, ...], says: str) -> None:
    reply = Reply(code, lines)
    hint = advice(reply.code, reply.enhanced, reply.text)
    assert says in hint
    assert "\n" not in hint and "prod.outlook.com" not in hint and "gsmtp" not in hint


def test_case_does_not_matter() -> None:
    assert "Set-CASMailbox" in advice(535, "5.7.139", "5.7.139 SMTPCLIENTAUTHENTICATION IS DISABLED FOR THE MAILBOX")


@settings(deadline=None)
@given(st.integers(200, 599), st.sampled_from(["5.7.139", "5.7.8", "5.7.3", "4.7.0", "5.0.0", ""]), st.text())
def test_it_is_one_line_whatever_comes_and_quotes_nothing(code: int, enhanced: str, text: str) -> None:
    hint = advice(code, enhanced, text)
    assert hint and hint.isascii() and hint.isprintable()
    assert hint == advice(code, enhanced, text + " marker-of-the-server")
