"""What the relay would do with a mail that lies in a file: the same decisions and the same bytes, without a server.

Used by `relay-mta check` and the demo. Nothing is recorded; the tokens in the copies are samples that open nothing. The
`Received` field and the loop mark, which only a real transit can write, are left out. A mail that the relay would
refuse after its data is exempt as `too-big` or `loop`, and reaches nobody.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from relay_mta import rulefolder, templatefolder
from relay_mta.config import Config
from relay_mta.core import copy, disposition, exemption, trace
from relay_mta.core.address import domain_of, same_path, within
from relay_mta.core.block import BlockTemplates
from relay_mta.core.company import OFF_KEYWORDS, Agency, Company
from relay_mta.core.disposition import Disposition, Role
from relay_mta.core.edit import Edit, apply
from relay_mta.core.envelope import Envelope, Recipient
from relay_mta.core.errors import SpliceError
from relay_mta.core.link import TOKEN_BYTES, token
from relay_mta.core.message import Message, index
from relay_mta.core.newline import mended
from relay_mta.core.ports import Chunks, Signing
from relay_mta.core.rules import RuleSet
from relay_mta.core.verdict import Hit
from relay_mta.signing import signers_of

SAMPLE_BASE_URL = "https://relay.example.jp"
SAMPLE_AGENCY = Agency("サンプル人材紹介株式会社", "https://agency.example/register")

DEFAULT_LIMITS: Mapping[str, int] = {
    field.name: field.default for field in fields(Config) if isinstance(field.default, int)
}
"""What counts without a configuration: the same as in one that sets no limits."""


@dataclass(frozen=True, slots=True)
class Reached:
    """One recipient: `copy` counts the copies from 1, 0 for none; `relayed` says whether that copy carries a link."""

    address: str
    role: Role
    relayed: bool
    copy: int


@dataclass(frozen=True, slots=True)
class Examination:
    """What the relay would do with one mail, and why. `texts_*` pair a part's label with its decoded text."""

    verdict: Literal["rejection", "none", "exempt"]
    reason: str
    score: float
    threshold: float
    hits: tuple[Hit, ...]
    recipients: tuple[Reached, ...]
    copies: tuple[Chunks, ...]
    texts_before: tuple[tuple[str, str], ...]
    texts_after: tuple[tuple[str, str], ...]


class Examiner:
    """Holds the rules and templates; without a configuration the From domain counts as the company's own.

    `own_rules`, `own_templates`, `signing` (keys) and `proofs` (names of header fields that are taken out): those of
    companies that have their own, by id.
    """

    def __init__(
        self,
        rules: RuleSet,
        templates: BlockTemplates,
        companies: Sequence[Company] = (),
        base_url: str = SAMPLE_BASE_URL,
        random: Callable[[int], bytes] = secrets.token_bytes,
        *,
        own_rules: Mapping[str, RuleSet] | None = None,
        own_templates: Mapping[str, BlockTemplates] | None = None,
        signing: Mapping[str, Signing] | None = None,
        proofs: Mapping[str, str] | None = None,
        max_size: int = DEFAULT_LIMITS["max_size"],
        max_received: int = DEFAULT_LIMITS["max_received"],
    ) -> None:
        self._rules = rules
        self._own_rules = own_rules or {}
        self._own_templates = own_templates or {}
        self._signing = signing or {}
        self._proofs = proofs or {}
        self._templates = templates
        self._companies = tuple(companies)
        self._base_url = base_url
        self._random = random
        self._max_size = max_size
        self._max_received = max_received

    @classmethod
    def from_config(cls, config: Config | None) -> Examiner:
        """What a configuration says, or the shipped rules and templates alone. Raises `RuleError`, `TemplateError`."""
        templates = templatefolder.load(config.template_folders() if config is not None else ())
        if config is None:
            return cls(rulefolder.load(), templates)
        rules = rulefolder.load(config.rule_folders())
        own = {each.company.id: rulefolder.load(config.rule_folders(each)) for each in config.companies if each.rules}
        companies = [each.company for each in config.companies]
        return cls(
            rules,
            templates,
            companies,
            config.web.base_url,
            own_rules=own,
            own_templates=templatefolder.load_own(config),
            signing=signers_of(config),
            proofs={each.company.id: each.proof.header for each in config.companies if each.proof is not None},
            max_size=config.max_size,
            max_received=config.max_received,
        )

    def examine(self, raw: bytes, to: Sequence[str] = ()) -> Examination:
        """Examine one mail, as a client would send it; `to` replaces the recipients that its header names."""
        whole = mended(raw)
        message = index(whole)
        sender = exemption.named(message, "from").paths or exemption.named(message, "sender").paths
        paths = list(to) or [path for name in ("to", "cc", "bcc") for path in exemption.named(message, name).paths]
        envelope = Envelope(sender[0] if sender else "", tuple(Recipient(path) for path in dict.fromkeys(paths)))
        company = self._company(envelope.reverse_path)
        nobody: tuple[Role, ...] = tuple("cc" for _ in envelope.recipients)
        edits = trace.edits(message, b"", proof=self._proofs.get(company.id) if company is not None else None)
        if company is None:
            return self._examination(message, envelope, Disposition("exempt", "unknown-company", nobody), {}, edits)
        refused = self._refused(message)
        if refused:
            return self._examination(message, envelope, Disposition("exempt", refused, nobody), None, edits)
        found = disposition.decide(
            message,
            envelope,
            company=company,
            rules=self._own_rules.get(company.id, self._rules),
            base_url=self._base_url,
            normalised=whole is not raw,
        )
        copies: dict[int, Chunks] = {}
        if found.kind == "relay" and company.mode == "relay":
            try:
                copies = {
                    i: self._spliced(message, edits, company, found, envelope.recipients[i].forward_path)
                    for i in found.candidates
                }
            except SpliceError as error:
                found = Disposition("exempt", error.reason, found.roles, verdict=found.verdict)
        return self._examination(message, envelope, found, copies, edits)

    def _refused(self, message: Message) -> str | None:
        if len(message.raw) > self._max_size:
            return "too-big"
        return "loop" if trace.hops(message) >= self._max_received else None

    def _company(self, sender: str) -> Company | None:
        domain = domain_of(sender)
        if not self._companies:
            agency, base = SAMPLE_AGENCY, domain or "example.jp"
            return Company("sample", base, (base,), agency, mode="relay", off_keywords=OFF_KEYWORDS)
        named = [company for company in self._companies if within(domain, company.domains)]
        if named or len(self._companies) > 1:
            return named[0] if named else None
        return self._companies[0]

    def _spliced(
        self, message: Message, edits: Sequence[Edit], company: Company, found: Disposition, path: str
    ) -> Chunks:
        assert found.verdict is not None
        made = copy.make(
            message,
            company,
            self._own_templates.get(company.id, self._templates),
            language=found.verdict.language,
            base_url=self._base_url,
            token=token(self._random(TOKEN_BYTES)),
            forward_path=path,
        )
        mail = apply(message.raw, (*edits, *made.edits))
        signing = self._signing.get(company.id)
        return signing.signed(mail) if signing is not None and made.unsigned else mail

    @staticmethod
    def _examination(
        message: Message,
        envelope: Envelope,
        found: Disposition,
        spliced: dict[int, Chunks] | None,
        edits: Sequence[Edit],
    ) -> Examination:
        """`edits`: of every copy; `spliced` has the copies by the recipient's index, None: nothing is sent at all."""
        sent = spliced is not None
        spliced = spliced or {}
        order = {i: position for position, i in enumerate(spliced, 1)}
        by_path = {same_path(envelope.recipients[i].forward_path): position for i, position in order.items()}
        rest = len(order) + 1 if sent else 0
        reached = tuple(
            Reached(r.forward_path, role, copy < rest, copy)
            for r, role in zip(envelope.recipients, found.roles, strict=True)
            for copy in (by_path.get(same_path(r.forward_path), rest),)
        )
        original = apply(message.raw, edits)
        copies = tuple(spliced.values())
        if sent and (not copies or any(not r.relayed for r in reached)):
            copies = (*copies, original)
        verdict = found.verdict
        kind: Literal["rejection", "none", "exempt"] = "rejection" if found.kind == "relay" else "none"
        return Examination(
            verdict="exempt" if found.kind == "exempt" else kind,
            reason=found.reason,
            score=verdict.score if verdict else 0.0,
            threshold=verdict.threshold if verdict else 0.0,
            hits=verdict.hits if verdict else (),
            recipients=reached,
            copies=copies,
            texts_before=_texts(message),
            texts_after=_texts(index(b"".join(copies[0]))) if spliced else _texts(message),
        )


def _texts(message: Message) -> tuple[tuple[str, str], ...]:
    return tuple((f"{text.part.content_type} (part {text.part.index})", text.text) for text in message.texts)
