"""The file of a company's own users: what may stand in it, how it is replaced, and how a password is verified."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from relay_mta import users
from relay_mta.core.errors import RelayError
from relay_mta.users import AT_ONCE, LONGEST, UserFile, UsersError, checked_login, hashed, read, write

CHEAP = PasswordHasher(
    time_cost=1, memory_cost=8, parallelism=1
)  # any argon2 hash is verified, also one that took little
HASH = CHEAP.hash("canary")
OTHER = CHEAP.hash("another")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users-acme"


def problems(path: Path, content: bytes) -> list[str]:
    path.write_bytes(content)
    with pytest.raises(UsersError) as caught:
        read(path)
    return [line.removeprefix(f"{path.parent}/") for line in str(caught.value).splitlines()]


# --- the file ---------------------------------------------------------------------------------------------------------


def test_there_need_not_be_a_file(path: Path) -> None:
    assert read(path) == {}


def test_what_may_stand_in_it(path: Path) -> None:
    text = f"# comment: with a colon\r\n\nHR@Acme.Example.JP:{HASH}\r\n   \n採用:{OTHER}"
    path.write_bytes(text.encode())
    assert read(path) == {"hr@acme.example.jp": HASH, "採用": OTHER}


def test_a_file_that_went_through_an_editor(path: Path) -> None:
    """A byte order mark belonged to the first login, and a blank at a line's end to its hash: nobody got in."""
    path.write_bytes(f"\ufeffhr:{HASH}  \r\nsales:{OTHER}\t\r\n".encode())
    assert read(path) == {"hr": HASH, "sales": OTHER}


def test_a_lines_number_is_what_an_editor_shows(path: Path) -> None:
    content = f"# one\x0c\x85\u2028still one\nhr:{HASH}\nnonsense\n".encode()
    assert [line.partition(" ")[0] for line in problems(path, content)] == ["users-acme:3:"]


@pytest.mark.parametrize(
    "broken",
    [
        "$argon2",
        "$argon2id$",
        "$argon2x" + HASH[9:],
        HASH[:40],
        HASH.rpartition("$")[0],
        HASH + "$",
        HASH + "é",
        HASH + "=",
        HASH + ":x",
        HASH * 2,
        "$argon2id" + HASH,
        HASH.replace("m=8", "m=８"),
        HASH.replace("m=8", "n=8"),
    ],
    ids=range(13),  # a hash is another one in each process
)
def test_a_broken_hash_is_named_and_not_only_never_right(path: Path, broken: str) -> None:
    """A user with such a line was refused, for ever and at once, and nobody was told why."""
    assert len(problems(path, f"hr:{broken}\n".encode())) == 1


@pytest.mark.parametrize(
    "old", ["$argon2i$m=512,t=2,p=2$c29tZXNhbHQ$2Svl8gb6vgI", "$argon2d" + HASH[9:]], ids=["argon2i", "argon2d"]
)
def test_hashes_of_other_argon2s_are_read(path: Path, old: str) -> None:
    path.write_text(f"hr:{old}\n")
    assert read(path) == {"hr": old}


logins = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"], exclude_characters=":"), min_size=1)


@given(st.dictionaries(logins.filter(lambda text: len(text) < 250 and not text.startswith("#")), st.just(HASH)))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, given: dict[str, str]) -> None:
    known = {checked_login(login): each for login, each in given.items()}
    path = tmp_path_factory.mktemp("users") / "file"
    write(path, known)
    assert read(path) == known


def test_every_broken_line_is_named_at_once(path: Path) -> None:
    lines = [
        f"hr@acme.example.jp:{HASH}",
        "sales@acme.example.jp",
        "# fine",
        "ceo@acme.example.jp:opensesame",
        f":{HASH}",
        f"two words:{HASH}",
        f"HR@acme.example.jp:{HASH}",
        f"{'x' * 256}:{HASH}",
        "$argon2id$v=19",
        f"good:{HASH}",
    ]
    found = problems(path, "\n".join(lines).encode())
    wrong = "is not login:hash; `relay-mta users` writes such lines"
    assert found == [
        f"users-acme:2: {wrong}",
        f"users-acme:4: {wrong}",
        f"users-acme:5: {wrong}",
        f"users-acme:6: {wrong}",
        "users-acme:7: names a login a second time; take one of them out",
        f"users-acme:8: {wrong}",
        f"users-acme:9: {wrong}",
    ]
    assert "opensesame" not in "".join(found)  # what somebody took for the way of it may be a password


def test_a_file_that_is_no_text(path: Path) -> None:
    assert problems(path, b"caf\xe9:" + HASH.encode()) == ["users-acme: is not UTF-8; expected lines login:hash"]
    path.unlink()
    path.mkdir()
    with pytest.raises(RelayError, match=r"users-acme: cannot be read: Is a directory"):
        read(path)


# --- writing ----------------------------------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_file_is_its_owners_alone_and_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "relay" / "users-acme"
    before = os.umask(0)
    try:
        write(path, {"hr": HASH})
    finally:
        os.umask(before)
    assert mode(path) == 0o600
    assert path.read_text() == f"hr:{HASH}\n"


@pytest.mark.parametrize("kept", [0o640, 0o600, 0o660, 0o444])
def test_an_old_file_keeps_its_mode_and_owner(path: Path, kept: int) -> None:
    path.write_text("")
    path.chmod(kept)
    if os.geteuid() == 0:
        os.chown(path, 4242, 4343)
    owner = (path.stat().st_uid, path.stat().st_gid)
    write(path, {"hr": HASH})
    assert mode(path) == kept
    assert (path.stat().st_uid, path.stat().st_gid) == owner
    assert read(path) == {"hr": HASH}


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link(tmp_path: Path, path: Path, there: bool) -> None:
    """The file was put in the link's place, and whatever else looked at the real one saw the old users for ever."""
    real = tmp_path / "real" / "users"
    real.parent.mkdir()
    if there:
        write(real, {"hr": HASH})
        real.chmod(0o640)
    path.symlink_to("real/users")
    write(path, {"sales": OTHER})
    assert path.is_symlink() and read(real) == {"sales": OTHER}
    assert mode(real) == (0o640 if there else 0o600)
    assert [each.name for each in real.parent.iterdir()] == ["users"]


def test_whoever_reads_meanwhile_sees_the_old_file_or_the_new_one(path: Path) -> None:
    """A thousand times, by another thread: never half of it, never none."""
    states = [{"hr": HASH}, {f"user{n}": OTHER for n in range(200)}]
    write(path, states[0])
    ended = threading.Event()
    seen: list[dict[str, str]] = []

    def look() -> None:
        while not ended.is_set():
            seen.append(read(path))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for n in range(100):
            write(path, states[n % 2])
    finally:
        ended.set()
        thread.join()
    assert len(seen) > 10
    assert all(each in states for each in seen)


def test_a_write_that_fails_leaves_everything_as_it_was(path: Path) -> None:
    write(path, {"hr": HASH})
    with pytest.raises(UnicodeEncodeError):
        write(path, {"hr": HASH, "\udce9": OTHER})
    assert read(path) == {"hr": HASH}
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RelayError, match=r"file/users: cannot be written: (Not a directory|File exists)"):
        write(tmp_path / "file" / "users", {})
    with pytest.raises(RelayError, match=r"folder: cannot be written: Is a directory"):
        (tmp_path / "folder").mkdir()
        write(tmp_path / "folder", {})
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder"]


# --- logins and passwords ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [("HR@Acme.Example.JP", "hr@acme.example.jp"), ("採用", "採用"), ("a" * 255, "a" * 255), ("-x", "-x")],
)
def test_a_login_is_kept_in_lower_case(given: str, kept: str) -> None:
    assert checked_login(given) == kept


@pytest.mark.parametrize(
    "login", ["", " ", "a b", "a:b", "a\n", "a\0", "a\tb", "a\x7f", "x\u2028y", "\u3000", "a" * 256, "\udce9"]
)
def test_what_cannot_be_a_login(login: str) -> None:
    with pytest.raises(RelayError, match="a login has 1 to 255 characters without blanks and colons, the first of"):
        checked_login(login)


def test_a_login_never_looks_like_a_comment() -> None:
    """It was written into the file and was not there when that was read again."""
    for login in ("#", "#hr", "#hr@acme.example.jp"):
        with pytest.raises(RelayError, match="the first of them not #"):
            checked_login(login)
    assert checked_login("hr#1") == "hr#1"


def test_a_hash_is_argon2s_salted_and_not_the_password() -> None:
    one, other = hashed("canary"), hashed("canary")
    assert one.startswith("$argon2id$") and one != other and "canary" not in one


@pytest.mark.parametrize("password", ["", "a\0b", "\0", "x" * (LONGEST + 1), "あ" * (LONGEST // 3 + 1)])
def test_a_password_that_cannot_be(password: str) -> None:
    with pytest.raises(RelayError, match=f"a password has 1 to {LONGEST} bytes and no NUL"):
        hashed(password)
    with pytest.raises(RelayError, match="the password is not UTF-8"):
        hashed("caf\udce9")


# --- verifying --------------------------------------------------------------------------------------------------------


def edited(path: Path, text: str | None) -> None:
    """As an administrator does it, in its place; None: the file is gone."""
    if text is None:
        path.unlink()
    else:
        path.write_text(text, "utf-8")


async def test_the_right_password_and_no_other(path: Path) -> None:
    secret = "ひみつ\r\n = 🔑"
    write(path, {"hr@acme.example.jp": hashed(secret), "sales": OTHER})
    known = UserFile(path)
    assert await known.verify("hr@acme.example.jp", secret.encode())
    assert await known.verify("HR@ACME.example.jp", secret.encode())  # telephones write names with a capital
    for login, password in (
        ("hr@acme.example.jp", secret.encode() + b" "),
        ("hr@acme.example.jp", secret.upper().encode() + b"x"),
        ("hr@acme.example.jp", secret.encode() + b"\0"),
        ("hr@acme.example.jp", secret.encode()[:-1]),
        ("hr@acme.example.jp", b""),
        ("hr@acme.example.jp", b"another"),
        ("hr@acme.example.jp", b"\xff\xfe"),
        ("sales", secret.encode()),
        ("nobody", secret.encode()),
        ("", secret.encode()),
        ("caf\udce9", secret.encode()),
    ):
        assert not await known.verify(login, password)


async def test_the_longest_password_is_good_and_what_begins_with_it_is_not(path: Path) -> None:
    write(path, {"hr": hashed("x" * LONGEST)})
    known = UserFile(path)
    assert await known.verify("hr", b"x" * LONGEST)
    assert not await known.verify("hr", b"x" * (LONGEST + 1))
    assert not await known.verify("hr", b"x" * 9000)


async def test_a_hash_of_a_longer_password_lets_nobody_in(path: Path) -> None:
    write(path, {"hr": CHEAP.hash(b"x" * (LONGEST + 1))})
    assert not await UserFile(path).verify("hr", b"x" * (LONGEST + 1))
    assert not await UserFile(path).verify("hr", b"x" * (LONGEST + 2))


class Watched(PasswordHasher):
    """Argon2 itself, and what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.verified: list[tuple[bool, int]] = []
        self.inside = self.most = 0
        self.hold: threading.Event | None = None
        self._lock = threading.Lock()

    def verify(self, hash: str | bytes, password: str | bytes) -> Any:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            if self.hold is not None:
                assert self.hold.wait(20)
            good = False
            try:
                good = super().verify(hash, password)
                return good
            finally:
                self.verified.append((good, self._check(hash)))
        finally:
            with self._lock:
                self.inside -= 1

    @staticmethod
    def _check(hash: str | bytes) -> int:
        """Its memory, in KiB, by which one verification costs what another does."""
        text = hash if isinstance(hash, str) else hash.decode()
        return int(text.split("$")[3].split(",")[0].removeprefix("m="))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    hasher = Watched()
    monkeypatch.setattr(users, "_hasher", hasher)
    return hasher


async def test_an_unknown_login_costs_what_a_wrong_password_does(path: Path, watched: Watched) -> None:
    write(path, {"hr": hashed("canary")})
    known = UserFile(path)
    for login, password in (("hr", b"wrong"), ("nobody", b"canary"), ("nobody", b"x" * 9000), ("hr", b"x" * 9000)):
        assert not await known.verify(login, password)
    assert watched.verified == [(False, watched.memory_cost)] * 4
    edited(path, None)
    assert not await known.verify("hr", b"canary")
    assert len(watched.verified) == 5


async def test_nobody_is_let_in_by_what_stands_for_an_unknown_login(path: Path, watched: Watched) -> None:
    known = UserFile(path)
    known._nobody = hashed("canary")
    assert not await known.verify("nobody", b"canary")
    assert watched.verified == [(True, watched.memory_cost)]


async def test_the_loop_goes_on_while_passwords_are_verified_two_at_a_time(path: Path, watched: Watched) -> None:
    write(path, {"hr": hashed("canary")})
    known = UserFile(path)
    watched.hold = threading.Event()
    asked = [asyncio.create_task(known.verify("hr", b"canary")) for _ in range(5)]
    async with asyncio.timeout(20):
        while watched.inside < AT_ONCE:  # noqa: ASYNC110  # a thread has no event of the loop's
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)  # the loop goes on, and nobody else begins
    assert not any(task.done() for task in asked)
    watched.hold.set()
    assert await asyncio.gather(*asked) == [True] * 5
    assert watched.most == AT_ONCE and len(watched.verified) == 5


async def test_a_changed_file_is_seen_at_the_next_login(path: Path) -> None:
    known = UserFile(path)
    assert not await known.verify("hr", b"canary")
    write(path, {"hr": HASH})
    assert await known.verify("hr", b"canary")
    for _ in range(3):
        write(path, {"hr": OTHER})  # as long as the other one
        assert not await known.verify("hr", b"canary")
        write(path, {"hr": HASH})
        assert await known.verify("hr", b"canary")
    edited(path, f"hr:{OTHER}\nsales:{HASH}\n")
    assert not await known.verify("hr", b"canary") and await known.verify("sales", b"canary")
    edited(path, None)
    assert not await known.verify("sales", b"canary")


async def test_an_unchanged_file_is_not_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, {"hr": HASH})
    known = UserFile(path)
    assert await known.verify("hr", b"canary")
    monkeypatch.setattr(users, "read", lambda path: pytest.fail("was read again"))
    assert await known.verify("hr", b"canary")


async def test_a_file_that_was_broken_lets_nobody_in_until_it_is_mended(path: Path) -> None:
    write(path, {"hr": HASH})
    known = UserFile(path)
    assert await known.verify("hr", b"canary")
    edited(path, f"hr:{HASH}\nnonsense\n")
    for _ in range(2):
        with pytest.raises(UsersError, match=":2: is not login:hash"):
            await known.verify("hr", b"canary")
    edited(path, f"hr:{HASH}\n\n")
    assert await known.verify("hr", b"canary")
