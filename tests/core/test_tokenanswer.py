"""A token endpoint's answer: what is a token and for how long, and that nothing of the server's gets into an error."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay_mta.core.errors import LoginError
from relay_mta.core.tokenanswer import LONGEST_SECONDS, UNTOLD_SECONDS, Issued, google, microsoft, read

CANARY = "words-of-the-server"


def answer(**fields: object) -> bytes:
    given = {"access_token": "ya29.c.b0A-_~+/=..", "token_type": "Bearer", "expires_in": 3599} | fields
    return json.dumps({name: value for name, value in given.items() if value is not None}).encode()


def why(status: int, body: bytes, advisor=microsoft) -> str:
    with pytest.raises(LoginError) as raised:
        read(status, body, advisor)
    return str(raised.value)


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        (3599, 3599),
        ("3599", 3599),
        (0.5, 0.5),
        (1, 1),
        (None, UNTOLD_SECONDS),
        (0, UNTOLD_SECONDS),
        (-1, UNTOLD_SECONDS),
        (True, UNTOLD_SECONDS),
        ("soon", UNTOLD_SECONDS),
        ("٣", UNTOLD_SECONDS),
        ([], UNTOLD_SECONDS),
        (float("nan"), UNTOLD_SECONDS),
        (float("inf"), LONGEST_SECONDS),
        (10**40, LONGEST_SECONDS),
    ],
)
def test_how_long_a_token_holds(expires_in: object, seconds: float) -> None:
    assert read(200, answer(expires_in=expires_in), google) == Issued("ya29.c.b0A-_~+/=..", seconds)


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER"])
def test_the_type_is_bearer_in_either_case(kind: str) -> None:
    assert read(200, answer(token_type=kind), google).token


@pytest.mark.parametrize("kind", [None, "", "mac", "Bearer ", ["Bearer"]])
def test_no_other_type_is_taken(kind: object) -> None:
    assert "token_type is not Bearer" in why(200, answer(token_type=kind))


@pytest.mark.parametrize("token", [None, "", 1, "two words", "a\x01b", "a\nb", "a\x00", "é", "a\x7f"])
def test_what_is_no_token_is_not_taken(token: object) -> None:
    assert "no access_token that could be used" in why(200, answer(access_token=token))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b"null", b"[" * 60_000, b"\xff\xfe\x00", b"9" * 5000])
def test_what_is_no_object_is_not_taken(body: bytes) -> None:
    assert "no JSON object" in why(200, body)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_none(status: int) -> None:
    assert f"a redirect (HTTP {status}), which is not followed" in why(status, answer())


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("body", [b"", b"<html>", answer(), json.dumps({"error_codes": [7000222]}).encode()])
def test_what_passes_is_called_temporary(status: int, body: bytes) -> None:
    assert f"(HTTP {status}): temporary" in why(status, body)
    assert ("too many requests" in why(status, body)) == (status == 429)


@pytest.mark.parametrize("number", [50196, 90006, 90033, 90055])
def test_entra_has_numbers_for_what_passes(number: int) -> None:
    assert "temporary" in why(400, json.dumps({"error": "invalid_request", "error_codes": [number]}).encode())


def test_entras_number_is_found_in_the_description_too() -> None:
    for description in (f"AADSTS7000222: {CANARY}", f"{CANARY} AADSTS7000222"):
        assert why(401, json.dumps({"error_description": description}).encode()).startswith("AADSTS7000222: ")
    assert "no code that is known" in why(401, json.dumps({"error_description": "AADSTS1234567890123: x"}).encode())
    assert "no code that is known" in why(401, json.dumps({"error_codes": [True, -1, "7000222", 10**9]}).encode())


def test_of_several_numbers_the_first_that_is_known_counts() -> None:
    assert why(401, json.dumps({"error_codes": [12345, 7000222]}).encode()).startswith("AADSTS7000222: ")
    assert "refused with AADSTS12345" in why(401, json.dumps({"error_codes": [12345, 12346]}).encode())


def test_what_nobody_knows_is_told_by_its_status() -> None:
    for advisor in (microsoft, google):
        assert "no token endpoint at this address" in why(404, b"<html>", advisor)
        assert "refused with HTTP 403 and no code" in why(403, b"<html>", advisor)
        assert "refused with invalid_scope (HTTP 400)" in why(400, b'{"error": "invalid_scope"}', advisor)
        assert "refused with HTTP 400 and no code" in why(400, json.dumps({"error": CANARY}).encode(), advisor)


@settings(deadline=None)
@given(
    st.integers(100, 599),
    st.sampled_from(["invalid_grant", "invalid_client", "unauthorized_client", "access_denied", CANARY]),
    st.text(),
    st.lists(st.integers() | st.text(), max_size=3),
    st.sampled_from([microsoft, google]),
)
def test_nothing_of_the_servers_words_gets_out(status, error, description, codes, advisor) -> None:
    fields = {"error": error, "error_description": f"{description} {CANARY}", "error_codes": codes, "more": CANARY}
    text = why(status, json.dumps(fields).encode(), advisor)
    assert text.isascii() and text.isprintable() and CANARY not in text


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(100, 599), st.sampled_from([microsoft, google]))
def test_any_bytes_are_a_token_or_one_error(body, status, advisor) -> None:
    assert why(status, body, advisor).isprintable()


def test_a_token_is_not_shown() -> None:
    assert "ya29" not in repr(read(200, answer(), google))
