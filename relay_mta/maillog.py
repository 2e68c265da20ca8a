"""What the operator reads: one function per event, one line per outcome (structlog; keys are stable, to be grepped).

No address, subject, body, token or credential ever gets here: callers pass keyed hashes (`core.keys.pseudonym`). An
error's own text is logged only where it is one of ours (`core.errors`), made of nothing that a mail contains; of any
other exception the type and the place in our code are logged, never its text.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Sequence
from typing import TextIO

import structlog

from relay_mta.core.errors import RelayError

_log = structlog.get_logger("relay_mta")


class _Output:
    """A stream that never stops a mail: lines that it does not take are dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # full, broken, or closed
            self._stream.write(line + "\n")
            self._stream.flush()

    log = debug = info = warning = error = critical = msg


def configure(stream: TextIO | None = None) -> None:
    """Write events as `key=value` lines with a UTC time stamp; to standard error unless told otherwise."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        logger_factory=lambda *_: _Output(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


def started(*, version: str, listeners: Sequence[str], web: str, rules: str, companies: int) -> None:
    """The relay accepts mail."""
    _log.info(
        "started",
        version=version,
        listeners=",".join(listeners),
        web=web,
        rules=rules,
        companies=companies,
    )


def rules_loaded(*, companies: Sequence[str], rules: str, count: int) -> None:
    """Rule files changed and are in force for these companies; `rules` is the new set's hash."""
    _log.info("rules-loaded", companies=",".join(companies), rules=rules, count=count)


def rules_refused(*, first: str, count: int, rules: str) -> None:
    """Rule files changed and are broken; the last good set stays. `first` is the first of `count` problems."""
    _log.error("rules-refused", problem=first, problems=count, rules=rules)


def few_files(*, allowed: int, places: int, wanted: int) -> None:
    """The system allows fewer files than `max_connections` needs; `places` clients can be served at once."""
    _log.warning("few-files", allowed=allowed, places=places, max_connections=wanted)


def out_of_files() -> None:
    """The system has no file descriptor for a client that wants to connect; said once a minute while it lasts."""
    _log.error("out-of-files")


def certificate_renewed(*, listener: str) -> None:
    """A listener's certificate files have changed and are in use."""
    _log.info("certificate-renewed", listener=listener)


def certificate_refused(*, listener: str, error: OSError) -> None:
    """A listener's certificate files have changed and cannot be used; the ones before stay."""
    _log.error("certificate-refused", listener=listener, error=error.strerror or type(error).__name__)


def stopped(*, aborted: int) -> None:
    """The relay has drained; `aborted` sessions did not end in time."""
    _log.info("stopped", aborted=aborted)


def stopping(*, seconds: float) -> None:
    """A signal asked us to end; in-flight mails have so many seconds."""
    _log.info("stopping", drain_seconds=seconds)


def stranger(*, client: str) -> None:
    """A client of no company was turned away. `client` is its network address."""
    _log.warning("stranger", client=client)


def login(*, company: str, client: str, code: int, locally: bool) -> None:
    """A client's login was answered; `locally`: refused without asking, since it was refused too often."""
    log = _log.info if code < 400 else _log.warning
    log("login", company=company, client=client, code=code, locally=locally)


def outcome(
    *,
    id: str,
    company: str,
    sender: str,
    recipients: Sequence[str],
    size: int,
    disposition: str,
    reason: str,
    score: float,
    rules: str,
    delivered: int,
    relayed: int,
    code: int,
    enhanced: str,
    milliseconds: int,
    trials: Sequence[str] = (),
) -> None:
    """One mail's end: what was decided, why, and what the client was told; `trials`: rules on probation that it met."""
    _log.info(
        "outcome",
        id=id,
        company=company,
        sender=sender,
        recipients=",".join(recipients),
        size=size,
        disposition=disposition,
        reason=reason,
        score=score,
        rules=rules,
        delivered=delivered,
        relayed=relayed,
        code=code,
        enhanced=enhanced,
        ms=milliseconds,
        **({"trials": ",".join(trials)} if trials else {}),
    )


def missed(*, id: str, company: str, reason: str) -> None:
    """A rejection was exempt, so nobody in it gets a link: an operator may want to know why, and how often."""
    _log.warning("rejection-exempt", id=id, company=company, reason=reason)


def refused(*, id: str, company: str, stage: str, code: int, enhanced: str) -> None:
    """MAIL or RCPT was not accepted; the client has the reply. A mail that never got to DATA has no other line."""
    _log.info("refused", id=id, company=company, stage=stage, code=code, enhanced=enhanced)


def uncharged(*, id: str, company: str, reason: str, in_doubt: bool) -> None:
    """A candidate's copy with a link did not go, or was not taken, and is not charged: "refused" and "deferred" are the
    upstream's answer to it, "late" the deadline, "original" the end of splicing behind a deferral."""
    _log.warning("uncharged", id=id, company=company, reason=reason, in_doubt=in_doubt)


def reported(*, id: str, company: str, failures: int, code: int, enhanced: str) -> None:
    """The sender's DSN on recipients that were refused was handed to the upstream; `code` is its answer."""
    _log.warning("dsn", id=id, company=company, failures=failures, code=code, enhanced=enhanced)


def fell_back(*, id: str, company: str, stage: str, error: BaseException) -> None:
    """Something of ours failed; the original bytes go, nothing is charged."""
    _log.warning("fell-back", id=id, company=company, stage=stage, error=described(error))


def ledger_trouble(*, id: str, company: str, step: str, error: BaseException) -> None:
    """The ledger did not take a step; the mail goes on."""
    _log.error("ledger-trouble", id=id, company=company, step=step, error=described(error))


def journal_torn(*, size: int) -> None:
    """The journal's last write had not been finished when the process ended; nobody was told that it was durable."""
    _log.warning("journal-torn", bytes=size)


def upstream_trouble(*, id: str, company: str, stage: str, error: BaseException) -> None:
    """The upstream could not be reached, or a session broke."""
    _log.warning("upstream-trouble", id=id, company=company, stage=stage, error=described(error))


def in_doubt(*, id: str, company: str, recipients: int) -> None:
    """The upstream was lost behind the final dot: nobody knows whether it has the mail."""
    _log.warning("in-doubt", id=id, company=company, recipients=recipients)


def defect(error: BaseException) -> None:
    """An exception that nobody expected; the client got 451 and keeps the mail."""
    _log.error("defect", error=described(error))


def described(error: BaseException) -> str:
    """Our own errors by their text, all others by type and place: their text may quote a mail."""
    if isinstance(error, RelayError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place
