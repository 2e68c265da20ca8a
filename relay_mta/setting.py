"""What one company's transactions need to know; put together anew for each, since rules change between mails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from relay_mta.core.block import BlockTemplates
from relay_mta.core.ports import Ledger, Signing
from relay_mta.core.rules import RuleSet
from relay_mta.core.tenancy import Proof


@dataclass(frozen=True, slots=True)
class Setting:
    """What every transaction of a company needs. `now` is in UTC; `unique` makes transaction ids; `tried` is told which
    rules on probation a mail met, `missed` why a rejection was exempt. `signing`: the company's key, if it signs again;
    `upstream_name`: for the DSN only; `hide_client`: our Received field does not name the client's address; `proof`:
    by what the company's mails are told from those of strangers; `loop_mark`: its mails are marked."""

    hostname: str
    base_url: str
    max_received: int
    secret: bytes
    ledger: Ledger
    rules: RuleSet
    templates: BlockTemplates
    now: Callable[[], datetime]
    unique: Callable[[], str]
    tried: Callable[[Sequence[str]], None]
    missed: Callable[[str], None]
    signing: Signing | None = None
    upstream_name: str = ""
    hide_client: bool = False
    proof: Proof | None = None
    loop_mark: bool = False
