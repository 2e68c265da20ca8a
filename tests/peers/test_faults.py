"""An upstream with each of smtp-sink's faults: the client hears the upstream's own refusal, and never a yes of ours.

Each fault is first provoked directly, without the relay in between: what is heard there is what has to come through.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.e2e.process import free_port, without_received
from tests.peers.dialog import LOST, Dialog, tell
from tests.peers.doors import Door, ManyDoors
from tests.peers.mails import AWKWARD, INVOICE, REJECTION, fresh_address, letter, text, token_put_in
from tests.peers.sink import Sink

pytestmark = pytest.mark.real("smtp-sink")

# Words that the relay would not say by itself.
DEFER, REFUSE = "452 4.3.1 Modoru", "554 5.7.0 Dame"
STAGES = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".")
OWN_TROUBLE = {421, 451}


@pytest.fixture(scope="module")
def relay(open_doors: Callable[[Sequence[Door]], ManyDoors]) -> ManyDoors:
    """A relay whose upstream comes and goes."""
    return open_doors([Door("acme", "127.0.0.1", free_port())])


@contextlib.contextmanager
def upstream(relay: ManyDoors, *flags: str) -> Iterator[Sink]:
    """The relay's upstream, with these flags."""
    with Sink(["-b", DEFER, "-B", REFUSE, *flags], port=relay.doors[0].port) as sink:
        yield sink


@pytest.mark.parametrize("stage", [*STAGES, "RSET", "QUIT"])
@pytest.mark.parametrize(
    "flag", [pytest.param("-r", id="defers"), pytest.param("-f", id="refuses"), pytest.param("-q", id="drops"),
             pytest.param("-Q", id="says-421")],
)  # fmt: skip
def test_a_fault_at_a_stage(relay: ManyDoors, flag: str, stage: str) -> None:
    address = fresh_address()
    raw = letter(address, body=text(INVOICE))
    with upstream(relay, flag, stage) as sink:
        wanted = tell(sink.port, raw, [address])
        kept = len(sink.copies(address))
        answer = tell(relay.smtp_port, raw, [address])
        if wanted.code in (LOST, 421) or wanted.stage in ("CONNECT", "EHLO"):
            assert answer.code in OWN_TROUBLE, (wanted, answer)
        else:
            assert (answer.code, answer.text) == (wanted.code, wanted.text)
        if answer.stage != ".":
            assert len(sink.copies(address)) == kept
        assert (answer.code == 250) == (wanted.code == 250)
        assert (wanted.code == 250) == (stage in ("RSET", "QUIT") or (flag in ("-r", "-f") and stage == "EHLO"))


@pytest.mark.parametrize("flags", [("-r", "."), ("-f", ".")], ids=["defers", "refuses"])
def test_a_rejection_that_is_not_taken_costs_nothing(relay: ManyDoors, flags: tuple[str, str]) -> None:
    before = relay.kinds("acme")
    candidate = fresh_address()
    with upstream(relay, *flags):
        answer = tell(relay.smtp_port, letter(candidate, body=text(REJECTION)), [candidate])
        assert answer.stage == "." and f"{answer.code} {answer.text.decode()}" == (DEFER if "-r" in flags else REFUSE)
    assert "relayed" not in relay.kinds("acme")[len(before) :]


@pytest.mark.parametrize("flag", ["-r", "-f", "-q", "-Q"])
def test_a_split_does_not_need_rset(relay: ManyDoors, flag: str) -> None:
    one, other = fresh_address(), fresh_address()
    raw = letter(one, body=text(REJECTION))
    with upstream(relay, flag, "RSET") as sink:
        assert tell(relay.smtp_port, raw, [one, other]).code == 250
        assert token_put_in(sink.received(one), raw) != token_put_in(sink.received(other), raw)


def test_550_while_the_mail_is_being_sent(relay: ManyDoors) -> None:
    """smtp-sink -A 0 refuses right behind its 354 and reads no more; the mail is larger than all buffers."""
    address = fresh_address()
    with upstream(relay, "-A", "0") as sink:
        raw = letter(address, body=AWKWARD["big"] * 40)
        answer = tell(relay.smtp_port, raw, [address])
        assert answer.stage == "." and answer.code in {550, *OWN_TROUBLE}, answer
        small = tell(relay.smtp_port, letter(address, body=text(INVOICE)), [address])
        assert small.stage == "." and small.code in {550, *OWN_TROUBLE}, small
        assert sink.copies(address) == []


@pytest.mark.parametrize(
    "flags",
    [("-W", ".:1"), ("-w", "1"), ("-W", "MAIL:1"), ("-W", "RCPT:1"), ("-H", "1", "-T", "2048")],
    ids=["at-the-dot", "at-DATA", "at-MAIL", "at-RCPT", "while-reading"],
)
def test_a_slow_upstream_is_waited_for(relay: ManyDoors, flags: tuple[str, ...]) -> None:
    address = fresh_address()
    raw = letter(address, body=AWKWARD["big"] * 10)
    with upstream(relay, *flags) as sink:
        assert tell(relay.smtp_port, raw, [address]).code == 250
        assert without_received(sink.received(address)) == raw


@pytest.mark.parametrize(
    "flag",
    ["-8", "-N", "-p", "-E", "-e", "-P"],
    ids=["8BITMIME", "DSN", "PIPELINING", "ENHANCEDSTATUSCODES", "ESMTP", "PIX"],
)
def test_what_the_upstream_does_not_offer_is_not_promised(relay: ManyDoors, flag: str) -> None:
    first, second = fresh_address(), fresh_address()
    with upstream(relay, flag) as sink:
        for address in (first, second):
            raw = letter(address, body=AWKWARD["8-bit"] + AWKWARD["dots"])
            dialog, direct = Dialog(relay.smtp_port), Dialog(sink.port)
            dialog.hello()
            direct.hello()
            if address == second:  # by now the relay knows its upstream
                passed_on = {"8bitmime", "dsn", "smtputf8", "size"}
                assert passed_on & dialog.extensions.keys() <= direct.extensions.keys()
            assert dialog.mail(raw, [address]).code == 250
            dialog.quit()
            direct.quit()
            assert without_received(sink.received(address)) == raw
