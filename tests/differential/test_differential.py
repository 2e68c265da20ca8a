"""The same SMTP dialogs with a Postfix, and with that Postfix through the relay: what differs has to be on the list.

"Change one host name, notice nothing else" is tested here by hundreds of dialogs (`dialogs/*.txt`), by every reply and
by every mail that arrived. `differences.toml` lists what differs, and why; anything new fails, and anything gone. A
reason that begins with BUG is one: the list is where it waits to be mended, and where the mending shows.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.differential import differences, ways
from tests.differential.client import ENDS, hold
from tests.differential.dialog import of, read, topics
from tests.differential.differences import Difference, Listed
from tests.e2e.process import BASE_CONFIG

LEAST = 300


@pytest.fixture(scope="module")
def pairs() -> list[ways.Pair]:
    return ways.run()


@pytest.fixture(scope="module")
def listed() -> Listed:
    return differences.load()


@pytest.mark.real("postfix")
@pytest.mark.parametrize("topic", topics())
def test_every_difference_is_listed_and_every_listed_one_is_there(
    pairs: list[ways.Pair], listed: Listed, topic: str
) -> None:
    found = differences.found(pair for pair in pairs if pair.dialog.topic == topic)
    known = [difference for difference in listed.named if difference.place.startswith(f"{topic}: ")]
    new = [_shown(difference) for difference in found if difference not in listed.named]
    gone = [_shown(difference) for difference in known if difference not in found]
    renew = "judge each, mend the relay or `python -m tests.differential.renew` and write the reason"
    assert not new, f"{len(new)} new differences; {renew}\n" + "\n".join(new)
    assert not gone, f"{len(gone)} differences are gone; `python -m tests.differential.renew`\n" + "\n".join(gone)


def _shown(difference: Difference) -> str:
    return f"{difference.place}\n  direct:  {difference.direct}\n  relayed: {difference.relayed}"


@pytest.mark.real("postfix")
def test_no_reply_is_missing_or_malformed(pairs: list[ways.Pair]) -> None:
    for pair in pairs:
        for place, answer in (*pair.direct.transcript, *pair.relayed.transcript):
            assert not any(end in answer for end in ENDS[1:]), f"{pair.dialog.topic}: {pair.dialog.name}: {place}"


@pytest.mark.real("postfix")
def test_no_mail_is_smuggled(pairs: list[ways.Pair]) -> None:
    """Whatever stands in the list: what is inside a mail is never another one."""
    smuggling = [pair for pair in pairs if pair.dialog.topic == "smuggling"]
    assert smuggling
    for pair in smuggling:
        senders = Counter(mail.partition(" ")[0] for mail in pair.relayed.arrived)
        assert senders["<smuggler@acme.example.jp>"] == 0, pair.dialog.name
        assert senders["<sender@acme.example.jp>"] <= 1, pair.dialog.name


SHARED = {
    "a size": (of("@ehlo", "MAIL FROM:<sender@acme.example.jp> SIZE=2000000", "RSET"), of("@rcpt", "@deliver")),
    "errors": (
        of("@mail", "*15 RCPT TO:<refused@test.example>", "RSET"),
        of("@mail", "*10 RCPT TO:<refused@test.example>"),
    ),
}


@pytest.mark.real("postfix")
@pytest.mark.parametrize("what", SHARED)
def test_nothing_of_one_client_is_left_for_the_next(what: str) -> None:
    """With an upstream's sessions shared between clients, as they are by default."""
    before, after = SHARED[what]
    with ways.real_postfix() as postfix, ways.relay_before(postfix.port, BASE_CONFIG) as relay:
        alone = hold(after, postfix.port, ways.STRANGER)
        hold(before, relay.smtp_port, ways.STRANGER)
        behind = hold(after, relay.smtp_port, ways.STRANGER)
    assert _codes(behind) == _codes(alone)


def _codes(transcript: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(place, answer[:3]) if " ×" not in answer else (place, answer) for place, answer in transcript[2:]]


def test_every_difference_has_a_reason(listed: Listed) -> None:
    without = [
        difference.place for difference, name in listed.named.items() if not listed.reasons.get(name, "").strip()
    ]
    assert not without, "\n".join(without)
    assert listed.reasons.keys() == set(listed.named.values())


def test_the_dialogs_are_many_and_each_is_another() -> None:
    dialogs = [dialog for topic in topics() for dialog in read(topic)]
    assert len(dialogs) >= LEAST
    names = Counter((dialog.topic, dialog.name) for dialog in dialogs)
    assert [name for name, count in names.items() if count > 1] == []
    said = Counter((tuple(dialog.steps), dialog.bytewise, dialog.early, dialog.ending) for dialog in dialogs)
    twice = [
        dialog.name for dialog in dialogs if said[tuple(dialog.steps), dialog.bytewise, dialog.early, dialog.ending] > 1
    ]
    assert twice == []
