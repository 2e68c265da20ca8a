"""A secret is read from where it is kept, anew each time, and never told to anybody but who asked for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay_mta.core.errors import RelayError
from relay_mta.secretsource import MAX_SECRET, SecretSource

KINDS = ("file", "env", "credential")


class Kept:
    """A place for a secret of each kind."""

    def __init__(self, kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kind = kind
        self.file = folder / "smtp-password"
        self.environment = monkeypatch
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
        name = {"file": str(self.file), "env": "SMTP_PASSWORD", "credential": "smtp-password"}[kind]
        self.source = SecretSource(kind, name)  # type: ignore[arg-type]

    def put(self, value: bytes) -> None:
        if self.kind == "env":
            self.environment.setenv("SMTP_PASSWORD", value.decode("utf-8", "surrogateescape"))
        else:
            self.file.write_bytes(value)

    def complaint(self) -> str:
        with pytest.raises(RelayError) as caught:
            self.source.read()
        assert "\n" not in str(caught.value)
        assert caught.value.__cause__ is None  # nor does a log show what it came from
        return str(caught.value).replace(f"{self.file.parent}/", "")


@pytest.fixture(params=KINDS)
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    return Kept(request.param, tmp_path, monkeypatch)


PLACES = {"file": "smtp-password", "env": "the environment variable SMTP_PASSWORD", "credential": "smtp-password"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(min_size=1, max_size=100).filter(
        lambda value: b"\0" not in value and value.strip() and value[-1:] not in b"\r\n"
    )
)
def test_a_secret_is_its_bytes_without_one_line_end(kept: Kept, secret: bytes) -> None:
    for end in (b"", b"\n", b"\r\n"):
        kept.put(secret + end)
        assert kept.source.read() == secret
    kept.put(secret + b"\n\n")
    assert kept.source.read() == secret + b"\n"  # a second one is part of it


def test_blanks_are_part_of_it(kept: Kept) -> None:
    kept.put(b" \tcanary \n")
    assert kept.source.read() == b" \tcanary "


def test_it_is_read_anew_each_time(kept: Kept) -> None:
    for secret in (b"first", b"second"):
        kept.put(secret)
        assert kept.source.read() == secret


@pytest.mark.parametrize("nothing", [b"", b"\n", b"\r\n", b" ", b"\t \n"])
def test_an_empty_one_is_missing(kept: Kept, nothing: bytes) -> None:
    kept.put(nothing)
    assert kept.complaint() == f"{PLACES[kept.kind]}: the secret is missing or empty"


def test_where_it_was_looked_for_is_said(kept: Kept) -> None:
    missing = "the secret is missing or empty" if kept.kind == "env" else "the secret cannot be read: No such file or"
    assert kept.complaint().startswith(f"{PLACES[kept.kind]}: {missing}")


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_longest_one_is_read_whole_and_no_longer_one_in_part(kept: Kept, end: bytes) -> None:
    kept.put(b"x" * MAX_SECRET + end)
    assert kept.source.read() == b"x" * MAX_SECRET
    for longer in (b"x" * (MAX_SECRET + 1), b"x" * (MAX_SECRET * 2)):
        kept.put(longer + end)
        assert kept.complaint() == f"{PLACES[kept.kind]}: too long for a secret"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b"\n\n"])
def test_a_line_end_in_the_last_place_is_not_the_end(kept: Kept, end: bytes) -> None:
    """What stood behind it was left out without a word."""
    kept.put(b"x" * (MAX_SECRET + 1 - len(end)) + end + b"more")
    assert kept.complaint() == f"{PLACES[kept.kind]}: too long for a secret"


def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(RelayError, match="/dev/zero: too long for a secret"):
        SecretSource("file", "/dev/zero").read()


def test_a_folder_is_no_secret(tmp_path: Path) -> None:
    with pytest.raises(RelayError, match="the secret cannot be read: Is a directory"):
        SecretSource("file", str(tmp_path)).read()


@pytest.mark.parametrize("value", [None, ""])
def test_a_credential_needs_systemd(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    else:
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", value)
    with pytest.raises(RelayError, match=r"the credential smtp needs systemd: .*CREDENTIALS_DIRECTORY is not set"):
        SecretSource("credential", "smtp").read()


def test_nothing_of_a_secret_stands_in_a_repr_or_a_complaint(kept: Kept) -> None:
    kept.put(b"canary" * MAX_SECRET)
    assert "canary" not in kept.complaint() + repr(kept.source)
