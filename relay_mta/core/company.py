"""A company as the pure core knows it: who its people are, who its agency is, and what its contract counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

OFF_KEYWORDS = ("[no-relay]", "【リレー不要】")
"""What switches the relay off for one mail, where a company does not say otherwise."""

Mode = Literal["off", "observe", "relay"]
Placement = Literal["below", "end", "link"]
"""Where a block goes: below the new text, at the end of all, or only where the company's dedicated link stands."""
Dkim = Literal["exempt", "resign", "remove"]
"""A rejection that is signed when it comes to us: left alone, signed again, or its signature taken out."""
EarnOn = Literal["relayed", "registered"]


@dataclass(frozen=True, slots=True)
class Agency:
    """The recruiting agency that the link leads to."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class CreditTerms:
    """What a contract counts from `start` (a date in UTC) on, until the next terms begin."""

    start: date
    relays_per_credit: int = 10
    earn_on: EarnOn = "relayed"
    count_window_days: int = 365


@dataclass(frozen=True, slots=True)
class Company:
    """One company whose mail we carry.

    `domains` (with every sub-domain of them) are its own people and `partners` (addresses or domains) its agencies and
    vendors: neither are candidates, ever. `exempt_senders` and, if there are any, all but `only_senders` (addresses and
    domains) send mail that is not judged; so does a subject with one of `off_keywords`. All but these are lower case.
    `allow_force`: a sender may ask for a link (`X-Career-Relay: on`).
    """

    id: str
    name: str
    domains: tuple[str, ...]
    agency: Agency
    partners: tuple[str, ...] = ()
    mode: Mode = "observe"
    exempt_senders: tuple[str, ...] = ()
    only_senders: tuple[str, ...] = ()
    off_keywords: tuple[str, ...] = ()
    allow_force: bool = False
    placement: Placement = "below"
    dkim: Dkim = "exempt"
    several_to: bool = False
    max_copies: int = 20
    split_deadline: float = 40.0
    credits: tuple[CreditTerms, ...] = ()
