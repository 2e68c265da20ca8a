"""A company's own users, who log in at the relay itself: a file with a line `login:argon2-hash` for each.

The file is read again when it has changed. Passwords are verified off the event loop, two at a time: a hash takes some
64 MiB and a tenth of a second by design (RFC 9106 §4). An unknown login takes as long as a wrong password.
`relay-mta users` writes the file, whole and at once, readable for its owner alone.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from relay_mta.core.errors import Problem, ProblemsError, RelayError

AT_ONCE = 2
LONGEST = 1024
"""Bytes of a password: a hash costs no more for a longer one, but somebody has to send it."""

_LOGIN = re.compile(r"(?!#)[^\s:\x00-\x20\x7f\ud800-\udfff]{1,255}")
_HASH = re.compile(r"\$argon2(?:id|i|d)(?:\$v=\d+)?\$m=\d+,t=\d+,p=\d+(?:\$[A-Za-z0-9+/]{11,}){2}", re.ASCII)
_hasher = PasswordHasher()


class UsersError(ProblemsError):
    """A users file that cannot be used."""


def read(path: Path) -> dict[str, str]:
    """Logins, in lower case, with their hashes; empty if there is no such file. Raises `UsersError`, `RelayError`."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise UsersError((Problem(str(path), "is not UTF-8; expected lines login:hash"),)) from None
    except OSError as error:
        raise RelayError(f"{path}: cannot be read: {error.strerror or error}") from None
    found: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.split("\n"), 1):  # lines as an editor counts them
        if not line.strip() or line.startswith("#"):
            continue
        login, _, hashed = line.rstrip().partition(":")
        if not _LOGIN.fullmatch(login) or not _HASH.fullmatch(hashed):
            problems.append(Problem(str(path), "is not login:hash; `relay-mta users` writes such lines", number))
        elif login.lower() in found:
            problems.append(Problem(str(path), "names a login a second time; take one of them out", number))
        else:
            found[login.lower()] = hashed
    if problems:
        raise UsersError(tuple(problems))
    return found


def write(path: Path, users: Mapping[str, str]) -> None:
    """Replace the file. Raises `RelayError`."""
    text = "".join(f"{login}:{users[login]}\n" for login in sorted(users))
    try:
        target = Path(os.path.realpath(path))  # a link stays one
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if target.exists():  # whoever reads it today may read it tomorrow: the relay runs as a user of its own
                status = target.stat()
                os.chmod(beside, status.st_mode & 0o777)
                os.chown(beside, status.st_uid, status.st_gid)
            os.replace(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RelayError(f"{path}: cannot be written: {error.strerror or error}") from None


def hashed(password: str) -> str:
    """A new hash of a password. Raises `RelayError` for one that cannot be."""
    try:
        size = len(password.encode())
    except UnicodeEncodeError:
        raise RelayError("the password is not UTF-8, in which mail clients send it") from None
    if not password or size > LONGEST or "\0" in password:
        raise RelayError(f"a password has 1 to {LONGEST} bytes and no NUL")
    return _hasher.hash(password)


def checked_login(login: str) -> str:
    """A login as it is kept. Raises `RelayError`."""
    if not _LOGIN.fullmatch(login):
        raise RelayError(
            "a login has 1 to 255 characters without blanks and colons, the first of them not #, "
            "such as hr@acme.example.jp"
        )
    return login.lower()


class UserFile:
    """Fulfils `gate.Users`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._users: dict[str, str] = {}
        self._nobody = _hasher.hash(secrets.token_hex(16))
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def verify(self, login: str, password: bytes) -> bool:
        """As the protocol says."""
        users = await asyncio.to_thread(self._present)
        known = users.get(login.lower())
        async with self._at_once:
            good = await asyncio.to_thread(_verified, known or self._nobody, password[: LONGEST + 1])
        return good and known is not None and len(password) <= LONGEST

    def _present(self) -> dict[str, str]:
        try:
            status = self._path.stat()
        except OSError:
            seen = None
        else:
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        if seen != self._seen or seen is None:
            self._users = read(self._path)
            self._seen = seen
        return self._users


def _verified(hashed: str, password: bytes) -> bool:
    try:
        return _hasher.verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False
