"""One candidate's copy of a rejection: which edits make it, and which signatures they break.

The relay sends these copies and `relay-mta check` shows them: both take them from here. Nothing is applied or signed.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay_mta.core import dkim, link
from relay_mta.core.block import BlockTemplates
from relay_mta.core.candidate import display_name
from relay_mta.core.company import Company
from relay_mta.core.edit import Edit
from relay_mta.core.message import Message
from relay_mta.core.splice import plan
from relay_mta.core.verdict import Language


@dataclass(frozen=True, slots=True)
class Copy:
    """The edits of one copy; `unsigned`: some take out a signature of the company's own, which the others break."""

    edits: tuple[Edit, ...]
    unsigned: bool


def make(
    message: Message,
    company: Company,
    templates: BlockTemplates,
    *,
    language: Language,
    base_url: str,
    token: str,
    forward_path: str,
) -> Copy:
    """The copy for the candidate with this forward path and token. Raises `SpliceError`: the mail stays as it is."""
    block = templates.render(
        language,
        company=company.name,
        agency=company.agency.name,
        link=link.url(base_url, token),
        opt_out=link.opt_out_url(base_url, token),
        candidate=display_name(message, forward_path),
    )
    dedicated = link.dedicated(base_url, company.id)
    edits = plan(message, block, placement=company.placement, dedicated_link=dedicated)
    broken = dkim.broken(message, company, edits)
    return Copy((*edits, *broken), bool(broken))
