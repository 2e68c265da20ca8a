"""The errors that cross rooms. Each message is one clear line for a person: what, where, and what to do.

None of these texts ever reaches an SMTP peer or a candidate (`core.reply` holds the peer texts).
"""

from __future__ import annotations

from dataclasses import dataclass

from relay_mta.core.reply import Reply


class RelayError(Exception):
    """Base of our own errors; `str(error)` is one line that an operator can act on."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a file that a person wrote.

    `line` and `column` count from 1; None means that the file as a whole is meant.
    """

    file: str
    text: str
    line: int | None = None
    column: int | None = None
    key: str | None = None

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place += f":{self.line}"
            if self.column is not None:
                place += f":{self.column}"
        return f"{place}: {self.key}: {self.text}" if self.key else f"{place}: {self.text}"


class ProblemsError(RelayError):
    """All that is wrong in what a person wrote, reported at once, in the files' order."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class ConfigError(ProblemsError):
    """The configuration cannot be used."""


class RuleError(ProblemsError):
    """The detection rules cannot be used."""


class TemplateError(ProblemsError):
    """A link block's template cannot be used."""


class SpliceError(RelayError):
    """A mail that cannot be spliced without harm. `reason` is the stable reason word of its outcome line."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class LedgerError(RelayError):
    """The ledger cannot read or durably write. The mail goes on untouched; nothing is charged."""


class UpstreamError(RelayError):
    """The upstream could not be reached, or the session broke, before a transaction's final dot was sent.

    Nothing was delivered; a new session may try again (RFC 5321 §4.1.1.4). `farewell`: the 421 that the upstream closed
    the session with, if it said one.
    """

    def __init__(self, text: str, *, farewell: Reply | None = None) -> None:
        super().__init__(text)
        self.farewell = farewell


class UpstreamBusyError(UpstreamError):
    """As many sessions as we may open are in use, and none became free in good time."""


class LoginError(UpstreamError):
    """Our own login to an upstream failed, or what it takes could not be had.

    The text holds no secret and no token, and of what a server said nothing but known codes ("535", "AADSTS7000222").
    """


class OutcomeUnknownError(RelayError):
    """The session broke after the final dot was sent and before a valid reply: the mail may have been accepted."""
