"""SASL as clients say it and as upstreams answer it: what is read out of a response, and every way a login can go."""

from __future__ import annotations

import base64
import string
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_mta.core import sasl
from relay_mta.core.reply import Reply
from relay_mta.core.sasl import CARRIED, Credentials, Mechanism, decoded, dialog, encoded, plain, read, xoauth2

SINGLE: tuple[Mechanism, ...] = ("PLAIN", "XOAUTH2", "OAUTHBEARER")

OK = Reply(235, (b"2.7.0 welcome",))
NO = Reply(535, (b"5.7.8 no",))
LATER = Reply(454, (b"4.7.0 later",))
GO_ON = Reply(334, (b"",))
USERNAME, PASSWORD = Reply(334, (b"VXNlcm5hbWU6",)), Reply(334, (b"UGFzc3dvcmQ6",))
REASONS = Reply(334, (base64.b64encode(b'{"status":"401","schemes":"bearer","scope":"https://mail.example/"}'),))

# RFC 7628 §4.1, and what stands on the wire for it.
BEARER = (
    b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01"
    b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
)
BEARER_LINE = (
    b"bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52Y"
    b"jNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
)

words = st.text(st.characters(codec="utf-8", exclude_characters="\0\x01,="), min_size=1, max_size=40)
bytes_without_nul = st.binary(min_size=1, max_size=80).filter(lambda value: b"\0" not in value)
tokens = st.text(string.ascii_letters + string.digits + "-._~+/=", min_size=1, max_size=200)


def driven(credentials: Credentials, *replies: Reply) -> tuple[list[bytes], Reply]:
    """What is said to a server that gives these replies, all of which have to be asked for, and the last one."""
    steps = dialog(credentials)
    lines = [next(steps)]
    for number, reply in enumerate(replies):
        try:
            lines.append(steps.send(reply))
        except StopIteration as stop:
            assert number == len(replies) - 1, f"ended at the reply {number + 1} of {len(replies)}"
            answer: Reply = stop.value
            return lines, answer
    raise AssertionError(f"still asks for a reply to {lines[-1]!r}")


# --- base64 -----------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_what_is_encoded_is_decoded_again(response: bytes) -> None:
    assert decoded(encoded(response)) == response
    assert not set(encoded(response)) & set(b"\r\n\0 ")


def test_an_empty_response_has_two_forms() -> None:
    assert decoded(b"=") == decoded(b"") == b""


@pytest.mark.parametrize(
    "line",
    [
        b"*",
        b"a",
        b"abc",
        b"ab=c",
        b"YQ",
        b"====",
        b"=YQ=",
        b"YQ==YQ==",
        b"Y Q==",
        b"YQ==\r",
        b"YQ\0==",
        b"-_-_",
        b"\xff",
    ],
)
def test_what_is_not_base64_is_told_from_an_empty_response(line: bytes) -> None:
    assert decoded(line) is None


@given(st.binary(max_size=60))
def test_a_line_is_read_or_refused_but_never_more(line: bytes) -> None:
    got = decoded(line)
    assert got is None or encoded(got).rstrip(b"=")[:-1] == line.rstrip(b"=")[:-1]


# --- reading ----------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=40).filter(lambda value: b"\0" not in value), bytes_without_nul, bytes_without_nul)
def test_plain_is_read_and_kept_to_the_byte(authzid: bytes, login: bytes, password: bytes) -> None:
    response = b"\0".join((authzid, login, password))
    got = read("PLAIN", response, initial=True)
    assert got is not None
    assert (got.login.encode("utf-8", "surrogateescape"), got.secret, got.response) == (login, password, response)


@given(words, st.binary(min_size=1, max_size=80).filter(lambda value: b"\0" not in value))
def test_what_plain_makes_is_read_again(login: str, password: bytes) -> None:
    made = plain(login, password)
    assert read("PLAIN", made.response, initial=True) == made


@given(words, tokens)
def test_what_xoauth2_makes_is_read_again(login: str, token: str) -> None:
    made = xoauth2(login, token)
    assert read("XOAUTH2", made.response, initial=True) == made


@pytest.mark.parametrize(
    ("response", "login", "password"),
    [
        (b"\0tim\0tanstaaftanstaaf", "tim", b"tanstaaftanstaaf"),  # RFC 4616 §4, both
        (b"Ursel\0Kurt\0xipj3plmq", "Kurt", b"xipj3plmq"),
        (base64.b64decode(b"AHRlc3QAMTIzNA=="), "test", b"1234"),  # RFC 4954 §4.1
        ("\0採用@acme.test\0ひみつ".encode(), "採用@acme.test", "ひみつ".encode()),
        (b"\0caf\xe9\0\xa3\xa3", "caf\udce9", b"\xa3\xa3"),  # what an old client sends in ISO-8859-1
        (b"\0a\0" + b"x" * 9000, "a", b"x" * 9000),
        (b"\0a\0 b\r\n=\x01", "a", b" b\r\n=\x01"),
    ],
)
def test_plain(response: bytes, login: str, password: bytes) -> None:
    got = read("PLAIN", response, initial=False)
    acts_for = "Ursel" if login == "Kurt" else ""
    assert got == Credentials("PLAIN", login, password, response, initial=False, acts_for=acts_for)


@pytest.mark.parametrize(
    "response",
    [b"", b"\0", b"\0\0", b"\0a\0", b"\0\0b", b"a\0b", b"\0a\0b\0", b"\0a\0b\0c", b"\0" * 5000, b"a", b"a b"],
)
def test_a_malformed_plain_is_none(response: bytes) -> None:
    assert read("PLAIN", response, initial=True) is None


@pytest.mark.parametrize(
    ("mechanism", "response", "login", "token"),
    [
        # as Google and Microsoft document it, and Thunderbird, Outlook and Apple Mail send it
        ("XOAUTH2", b"user=hr@acme.test\x01auth=Bearer ya29.a0-_~+/=\x01\x01", "hr@acme.test", b"Bearer ya29.a0-_~+/="),
        ("XOAUTH2", b"user=hr@acme.test\x01auth=bearer x\x01\x01", "hr@acme.test", b"bearer x"),
        ("XOAUTH2", "user=採用@例え.test\x01auth=Bearer x\x01\x01".encode(), "採用@例え.test", b"Bearer x"),
        ("OAUTHBEARER", BEARER, "user@example.com", b"Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="),
        # msmtp and K-9 Mail leave out what is optional
        ("OAUTHBEARER", b"n,a=hr@acme.test,\x01auth=Bearer x\x01\x01", "hr@acme.test", b"Bearer x"),
        ("OAUTHBEARER", b"n,a=a@b,\x01port=587\x01auth=Bearer x\x01host=smtp.test\x01\x01", "a@b", b"Bearer x"),
    ],
)
def test_tokens_as_clients_send_them(mechanism: Mechanism, response: bytes, login: str, token: bytes) -> None:
    assert read(mechanism, response, initial=True) == Credentials(mechanism, login, token, response)


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("XOAUTH2", b""),
        ("XOAUTH2", b"\x01"),
        ("XOAUTH2", b"user=\x01auth=Bearer x\x01\x01"),
        ("XOAUTH2", b"user=a\x01auth=Bearer \x01\x01"),
        ("XOAUTH2", b"user=a\x01auth=Basic eA==\x01\x01"),
        ("XOAUTH2", b"user=a\x01\x01"),
        ("XOAUTH2", b"auth=Bearer x\x01\x01"),
        ("XOAUTH2", b"\0a\0b"),
        ("XOAUTH2", b"auser=a\x01auth=Bearer x\x01\x01"),
        ("XOAUTH2", BEARER),
        ("OAUTHBEARER", b"\x01"),  # what gives up after the reasons (RFC 7628 §3.2.3)
        ("OAUTHBEARER", b"n,,\x01auth=Bearer x\x01\x01"),  # no login: nobody knows whose it is
        ("OAUTHBEARER", b"n,a=,\x01auth=Bearer x\x01\x01"),
        ("OAUTHBEARER", b"n,a=a,\x01\x01"),
        ("OAUTHBEARER", b"user=a\x01auth=Bearer x\x01\x01"),
        ("OAUTHBEARER", b"p=tls-unique,a=a,\x01auth=Bearer x\x01\x01"),  # there is no channel to bind to
    ],
)
def test_a_malformed_token_is_none(mechanism: Mechanism, response: bytes) -> None:
    assert read(mechanism, response, initial=True) is None


@pytest.mark.parametrize(
    ("header", "login"),
    [
        (b"n,a=a=3Db=2Cc@acme.test,", "a=b,c@acme.test"),
        (b"n,a=a=3D2C,", "a=2C"),
        (b"n,a=a=b@acme.test,", "a=b@acme.test"),  # not as it should be, but no other login can be meant
        (b"y,a=a@acme.test,", "a@acme.test"),
    ],
)
def test_an_oauthbearer_login_is_read_as_gs2_writes_it(header: bytes, login: str) -> None:
    got = read("OAUTHBEARER", header + b"\x01auth=Bearer x\x01\x01", initial=True)
    assert got is not None and got.login == login


def test_an_oauthbearer_login_stands_in_the_header_alone() -> None:
    """An upstream reads the header; a login from elsewhere would name another company, and be counted as another."""
    assert read("OAUTHBEARER", b"n,,\x01x=n,a=a@acme.test,\x01auth=Bearer x\x01\x01", initial=True) is None


@given(st.sampled_from(SINGLE), st.binary(max_size=200) | st.lists(st.sampled_from(
    [b"\0", b"\x01", b"n,a=", b"user=", b"auth=Bearer ", b",", b"x", b"\xff", b"="])).map(b"".join))  # fmt: skip
def test_whatever_is_read_is_kept_to_the_byte_and_has_a_login(mechanism: Mechanism, response: bytes) -> None:
    got = read(mechanism, response, initial=True)
    if got is not None:
        assert got.response == response and got.login and got.secret
        assert got.secret in response


def test_a_huge_response_is_read_in_linear_time() -> None:
    for filler in (b"user=", b"\x01user=", b"\x01auth=Bearer ", b"n,a=", b"n,a=x", b"\0"):
        for mechanism in SINGLE:
            assert read(mechanism, filler * 200_000, initial=True) is None


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", [*CARRIED, "CRAM-MD5"])
def test_a_secret_never_stands_in_a_repr(mechanism: Mechanism) -> None:
    made = Credentials(mechanism, "hr@acme.test", b"canary", b"\0hr@acme.test\0canary")
    steps = dialog(made)
    next(steps)
    for shown in (repr(made), str(made), f"{made!r:.500}", repr([made]), repr({"x": made}), repr(steps)):
        assert "canary" not in shown
    assert "hr@acme.test" in repr(made)


# --- the dialog -------------------------------------------------------------------------------------------------------


def test_plain_in_one_go() -> None:
    assert driven(plain("tim", b"tanstaaftanstaaf"), OK) == ([b"AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm"], OK)


def test_plain_without_initial_response() -> None:
    made = Credentials("PLAIN", "tim", b"x", b"\0tim\0x", initial=False)
    assert driven(made, GO_ON, OK) == ([b"AUTH PLAIN", b"AHRpbQB4"], OK)


def test_a_server_that_ignores_an_initial_response_gets_it_again() -> None:
    assert driven(plain("tim", b"x"), GO_ON, OK) == ([b"AUTH PLAIN AHRpbQB4", b"AHRpbQB4"], OK)
    assert driven(plain("tim", b"x"), GO_ON, NO)[1] == NO


@pytest.mark.parametrize("asked", [GO_ON, Reply(334, (b" ",))])
def test_a_server_that_ignores_an_initial_token_gets_it_again(asked: Reply) -> None:
    """A client that gave its token already would take the bare 334 for reasons, and give up."""
    made = xoauth2("hr@acme.test", "ya29")
    (first, second), answer = driven(made, asked, OK)
    assert first == b"AUTH XOAUTH2 " + second and answer == OK
    assert driven(made, asked, REASONS)[1] == REASONS


def test_login_takes_the_challenges_in_their_order_and_not_by_their_words() -> None:
    made = Credentials("LOGIN", "tim", b"secret", initial=False)
    for first, second in ((USERNAME, PASSWORD), (GO_ON, GO_ON), (Reply(334, (b"not base64",)), PASSWORD)):
        assert driven(made, first, second, OK) == ([b"AUTH LOGIN", b"dGlt", b"c2VjcmV0"], OK)


def test_login_never_has_an_initial_response() -> None:
    assert driven(Credentials("LOGIN", "tim", b"x"), NO)[0] == [b"AUTH LOGIN"]


def test_a_token_in_one_go() -> None:
    made = read("OAUTHBEARER", BEARER, initial=True)
    assert made is not None
    assert driven(made, OK) == ([b"AUTH OAUTHBEARER " + BEARER_LINE], OK)
    (line,), _ = driven(xoauth2("hr@acme.test", "ya29"), OK)
    assert decoded(line.removeprefix(b"AUTH XOAUTH2 ")) == b"user=hr@acme.test\x01auth=Bearer ya29\x01\x01"


@pytest.mark.parametrize("length", [300, 310, 311, 312, 313, 314, 315, 400, 3000, 9000])
def test_a_long_token_waits_for_its_334(length: int) -> None:
    """Servers cut a command line that is longer than they need to take, and a token of Microsoft's has 2,000 bytes."""
    made = xoauth2("hr@acme.test", "x" * length)
    steps = dialog(made)
    first = next(steps)
    assert len(first) + 2 <= 512
    if first == b"AUTH XOAUTH2":
        assert len(first) + 1 + len(encoded(made.response)) + 2 > 512
        assert steps.send(GO_ON) == encoded(made.response)
    else:
        assert decoded(first.removeprefix(b"AUTH XOAUTH2 ")) == made.response
    with pytest.raises(StopIteration):
        steps.send(OK)


def test_the_reasons_for_a_refused_token_are_handed_on() -> None:
    """They are the client's to read, who then says something to hear the refusal itself (RFC 7628 §3.2.3)."""
    for initial in (True, False):
        made = read("OAUTHBEARER", BEARER, initial=initial)
        assert made is not None
        lines, answer = driven(made, *(() if initial else (GO_ON,)), REASONS)
        assert answer == REASONS and lines[-1].endswith(BEARER_LINE)


def test_cram_md5_as_its_rfc_shows_it() -> None:
    made = Credentials("CRAM-MD5", "tim", b"tanstaaftanstaaf", initial=False)
    challenge = Reply(334, (b"PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+",))
    lines, answer = driven(made, challenge, OK)
    assert lines == [b"AUTH CRAM-MD5", b"dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"] and answer == OK


@pytest.mark.parametrize("challenge", [b"<1896.697170952@postoffice.reston.mci.net>", b"\xff\xfe\xfd", b"YQ"])
def test_a_challenge_that_is_not_base64_is_given_up(challenge: bytes) -> None:
    cancelled = Reply(501, (b"5.7.0 cancelled",))
    lines, answer = driven(Credentials("CRAM-MD5", "tim", b"x"), Reply(334, (challenge,)), cancelled)
    assert lines == [b"AUTH CRAM-MD5", b"*"] and answer == cancelled


STEPS: list[tuple[Credentials, Sequence[Reply]]] = [
    (plain("tim", b"x"), ()),
    (plain("tim", b"x"), (GO_ON,)),
    (Credentials("PLAIN", "tim", b"x", b"\0tim\0x", initial=False), ()),
    (Credentials("PLAIN", "tim", b"x", b"\0tim\0x", initial=False), (GO_ON,)),
    (Credentials("LOGIN", "tim", b"x", initial=False), ()),
    (Credentials("LOGIN", "tim", b"x", initial=False), (USERNAME,)),
    (Credentials("LOGIN", "tim", b"x", initial=False), (USERNAME, PASSWORD)),
    (xoauth2("tim", "x"), ()),
    (Credentials("CRAM-MD5", "tim", b"x"), ()),
    (Credentials("CRAM-MD5", "tim", b"x"), (Reply(334, (b"YQ==",)),)),
]


@pytest.mark.parametrize("last", [NO, LATER, Reply(504, (b"5.5.4 not offered",)), Reply(421, (b"4.3.2 bye",)), OK])
@pytest.mark.parametrize(("made", "before"), STEPS)
def test_the_last_word_may_come_at_every_step(made: Credentials, before: Sequence[Reply], last: Reply) -> None:
    """Whatever is no challenge ends the exchange: not a word more, least of all the password, is said to it."""
    lines, answer = driven(made, *before, last)
    assert answer == last and len(lines) == len(before) + 1


@given(st.sampled_from([*CARRIED, "CRAM-MD5"]), words, st.binary(max_size=80), st.booleans(), st.lists(
    st.binary(max_size=20).filter(lambda text: not set(text) & set(b"\r\n\0")), max_size=6))  # fmt: skip
def test_a_server_that_challenges_for_ever_hears_the_end_soon(
    mechanism: Mechanism, login: str, secret: bytes, initial: bool, texts: list[bytes]
) -> None:
    made = Credentials(mechanism, login, secret, b"\0" + login.encode() + b"\0" + secret, initial)
    steps = dialog(made)
    lines = [next(steps)]
    try:
        for text in [*texts, *[b"YQ=="] * 4]:
            lines.append(steps.send(Reply(334, (text,))))
    except StopIteration:
        pass
    assert len(lines) <= 3
    assert all(not set(line) & set(b"\r\n\0") for line in lines)
    assert lines[0].split(b" ")[:2] == [b"AUTH", mechanism.encode()]


def test_max_response_is_the_rfcs() -> None:
    assert sasl.MAX_RESPONSE == 12288  # RFC 4954 §4
