"""Where a secret is kept: a file, an environment variable, or a credential of systemd's (systemd.exec(5)).

A secret never stands in the configuration itself, which people mail to each other. It is read anew each time it is
needed, so that one that was changed is taken without a restart. One line end behind it is not part of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from relay_mta.core.errors import RelayError

MAX_SECRET = 64 * 1024
"""Bytes; a service account's key file has some two thousand."""


@dataclass(frozen=True, slots=True)
class SecretSource:
    """`name`: a path, a variable's name, or a credential's name."""

    kind: Literal["file", "env", "credential"]
    name: str

    def read(self) -> bytes:
        """The secret. Raises `RelayError` saying where it was looked for; never with anything of what stands there."""
        if self.kind == "env":
            value = os.environ.get(self.name, "").encode("utf-8", "surrogateescape")
            place = f"the environment variable {self.name}"
        else:
            path = self._path()
            place = str(path)
            try:
                with path.open("rb") as file:
                    value = file.read(MAX_SECRET + len(b"\r\n") + 1)
            except OSError as error:
                raise RelayError(f"{place}: the secret cannot be read: {error.strerror or error}") from None
        value = value.removesuffix(b"\n").removesuffix(b"\r")
        if not value.strip():  # blanks alone are a mistake, and as a proof they would be none
            raise RelayError(f"{place}: the secret is missing or empty")
        if len(value) > MAX_SECRET:
            raise RelayError(f"{place}: too long for a secret")
        return value

    def _path(self) -> Path:
        if self.kind == "file":
            return Path(self.name)
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            raise RelayError(
                f"the credential {self.name} needs systemd: CREDENTIALS_DIRECTORY is not set (LoadCredential=)"
            )
        return Path(folder, self.name)
