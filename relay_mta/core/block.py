"""The block that goes into a rejection: rendered from the admin's templates, for one candidate's link.

A block comes in three variants: `text` for text/plain, `plain` for charsets that cannot carry `text` (ASCII, and
the kanji and kana of JIS X 0208), and `html` for text/html. The templates are Jinja2, written by the admin and not
trusted with the machine: they are checked when they are loaded, and every problem is reported with its file and
line.

What a template may do is short, because its output must stay short: put a variable (`VARIABLES`), choose (`{% if %}`),
compare, join with `~`, and use a few filters. No loop, no assignment, no arithmetic, no call, no other template. With
these the output cannot grow beyond the template's own length times the longest variable: the sandbox alone would let
`'x' * 10**9` take a gigabyte.

What is not promised: that a template says what the law or good taste wants. That it names who offers the link, carries
it, and leads to where the candidate can say no for good, is checked.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from relay_mta.core.errors import Problem, SpliceError, TemplateError
from relay_mta.core.verdict import Language

NAMES = tuple(f"{language}.{kind}" for language in ("ja", "en") for kind in ("txt", "plain.txt", "html"))
"""The templates there must be."""

VARIABLES = frozenset({"company", "agency", "link", "opt_out", "candidate", "language"})
"""`company` and `agency` are names, `link` and `opt_out` URLs, `candidate` the name that the mail's To gives its reader
("" if it gives none: ask with `{% if candidate %}`), `language` is "ja" or "en"."""
REQUIRED = frozenset({"agency", "link", "opt_out"})
"""What every template must use: a block says who offers it, leads somewhere, and says how to decline."""

SOURCE_LIMIT = 16_384
"""Characters of a template. A block is a dozen lines; its styles are inline. Bounds the parser's work."""
MOST_NODES = 1_000
DEEPEST = 20
"""Of a template's syntax tree: compiling takes time that grows with the square of a chain of filters."""
TEXT_LIMIT = 4_000
"""Characters of a rendered text block: three screens, far more than a reader of a rejection should be shown."""
HTML_LIMIT = 16_000
"""Characters of a rendered HTML block."""
NAME_LIMIT = 64
"""Characters of a company's or agency's name. The longest registered company names in Japan are near 50."""
LINK_LIMIT = 200
"""Characters of a link: the token, and a base URL that an admin can still read."""
WIDTH = 76
"""Columns of a text line (RFC 5322 §2.1.1 and RFC 3676 §4.2 ask for at most 78); a wide character takes two."""

_FILTERS = ("e", "escape", "upper", "lower", "trim", "default", "d")
_TESTS = ("defined", "undefined", "none", "equalto", "eq", "==", "ne", "!=")
_NODES = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.If,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Concat,
    nodes.Filter,
    nodes.Test,
    nodes.Keyword,
)
_SAID = {
    nodes.Mul: "the operator *",
    nodes.Pow: "the operator **",
    nodes.Mod: "the operator %",
    nodes.Add: "the operator + (join texts with ~)",
    nodes.Call: "a call",
    nodes.For: "a loop",
    nodes.Assign: "an assignment",
    nodes.AssignBlock: "an assignment",
    nodes.Getattr: "an attribute",
    nodes.Getitem: "a subscript",
}
# RFC 3986: what a URL may be written with, less the quotes and brackets that would end it inside a mail or a tag.
_LINK = re.compile(r"https?://[A-Za-z0-9\-._~:/?#@!$&()*+,;=%\[\]]+", re.ASCII)
# Not of category Cf, and yet invisible: they could hide text or make two names look alike.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_NOT_AT_START = frozenset(
    "、。，．,.・：；:;？！?!）)］]｝}〕〉》」』】’”ゝゞ々ーぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ"
)
_NOT_AT_END = frozenset("（([［{｛〔〈《「『【‘“")


@dataclass(frozen=True, slots=True)
class Block:
    r"""One candidate's block. The text variants are lines joined by "\n", none of them ending in a blank, without empty
    lines around them and without a final line end; `html` likewise. `link` stands in each of them, and so does the
    candidate's way to decline."""

    text: str
    plain: str
    html: str
    link: str


class BlockTemplates:
    """The admin's templates, checked and compiled once; rendering has no effects and is safe from any thread."""

    def __init__(self, templates: Mapping[str, jinja2.Template]) -> None:
        self._templates = dict(templates)

    @classmethod
    def parse(cls, sources: Mapping[str, str], *, places: Mapping[str, str] | None = None) -> BlockTemplates:
        """Read the templates of `NAMES`. Raises `TemplateError` with everything that is wrong in any of them.

        `places` is what problems call them; by default their names.
        """
        problems = [Problem(name, "the template is missing") for name in NAMES if name not in sources]
        problems += [
            Problem(name, f"unknown template; the names are {', '.join(NAMES)}")
            for name in sources
            if name not in NAMES
        ]
        templates = {}
        for name in NAMES:
            if name in sources:
                found = _compile(name, sources[name])
                if isinstance(found, jinja2.Template):
                    templates[name] = found
                else:
                    problems += found
        if not problems:
            made = cls(templates)
            problems += [problem for name in NAMES for problem in made._trial(name)]
        if problems:
            called = places or {}
            raise TemplateError(tuple(replace(one, file=called.get(one.file, one.file)) for one in problems))
        return made

    def render(
        self, language: Language, *, company: str, agency: str, link: str, opt_out: str, candidate: str = ""
    ) -> Block:
        """The block in one language. Names are cleaned and shortened to `NAME_LIMIT`; the links must be http(s) URLs.

        Raises `SpliceError("template")`.
        """
        for url in (link, opt_out):
            if len(url) > LINK_LIMIT or not _LINK.fullmatch(url):
                raise SpliceError("template", "the link is not a plain http(s) URL")
        names = {"company": _clean(company), "agency": _clean(agency)}
        if not all(names.values()):
            raise SpliceError("template", "the company's or the agency's name is empty")
        names["candidate"] = _clean(candidate)
        # ㈱ and ① have customary spellings that every Japanese charset can write.
        simple = {key: _clean(unicodedata.normalize("NFKC", name)) for key, name in names.items()}
        fixed = {"link": link, "opt_out": opt_out, "language": language}
        return Block(
            text=self._text(f"{language}.txt", {**names, **fixed}),
            plain=self._text(f"{language}.plain.txt", {**simple, **fixed}),
            html=self._render(f"{language}.html", {**names, **fixed}, HTML_LIMIT),
            link=link,
        )

    def _text(self, name: str, values: Mapping[str, str]) -> str:
        text = self._render(name, values, TEXT_LIMIT)
        return "\n".join(piece for line in text.split("\n") for piece in _wrap(line))

    def _render(self, name: str, values: Mapping[str, str], limit: int) -> str:
        pieces: list[str] = []
        length = 0
        try:
            for piece in self._templates[name].generate(values):
                pieces.append(piece)
                length += len(piece)
                if length > limit:
                    raise SpliceError("template", f"{name}: the block is longer than {limit} characters")
        except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise SpliceError("template", f"{name}: {type(error).__name__}") from error
        lines = [line.rstrip() for line in "".join(pieces).splitlines()]
        text = "\n".join(lines).strip("\n")
        for wanted, said in (("link", "the link"), ("opt_out", "the way to decline (opt_out)")):
            if values[wanted] not in text:
                raise SpliceError("template", f"{name}: {said} is missing in the block")
        return text

    def _trial(self, name: str) -> Iterator[Problem]:
        """Render one template with made-up values: what would fail at the first rejection fails at load."""
        link, opt_out = (f"https://relay.invalid/{path}/{'a' * 26}" for path in ("r", "stop"))
        fixed = {"agency": "Agency <1>", "link": link, "opt_out": opt_out, "language": name[:2]}
        texts = []
        for candidate in ("", "Taro Yamada"):
            values = {"company": "Company & Co.", "candidate": candidate, **fixed}
            try:
                texts.append(self._render(name, values, HTML_LIMIT if name.endswith(".html") else TEXT_LIMIT))
            except SpliceError as error:
                yield Problem(name, str(error).removeprefix(f"template: {name}: "))
                return
        if name.endswith(".html"):
            return
        text = texts[0]
        for url in (link, opt_out):
            if url not in text.split("\n"):
                yield Problem(name, "each link must stand alone on its line, or mail clients break it")
                break
        if name == "en.plain.txt" and not text.isascii():
            yield Problem(name, "the plain variant must be pure ASCII")
        if name == "ja.plain.txt" and not _is_jis(text):
            yield Problem(name, "the plain variant must be ASCII and JIS X 0208 only (no ①, ㈱, ～ or half-width kana)")


def _is_jis(text: str) -> bool:
    try:
        text.encode("iso2022_jp")
    except UnicodeEncodeError:
        return False
    return True


def _environment(*, autoescape: bool) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, autoescape=autoescape, keep_trailing_newline=True, trim_blocks=True
    )
    environment.globals.clear()  # range, lipsum, cycler and the like
    environment.filters = {name: environment.filters[name] for name in _FILTERS}
    environment.tests = {name: environment.tests[name] for name in _TESTS}
    return environment


_TEXT = _environment(autoescape=False)
_HTML = _environment(autoescape=True)


def _compile(name: str, source: str) -> jinja2.Template | list[Problem]:
    if len(source) > SOURCE_LIMIT:
        return [Problem(name, f"the template is longer than {SOURCE_LIMIT} characters")]
    environment = _HTML if name.endswith(".html") else _TEXT
    try:
        # Parsed and checked before it is compiled: compiling already computes constant expressions.
        tree = environment.parse(source, name)
        problems = list(_check(name, tree))
        if problems:
            return problems
        return environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        return [Problem(name, str(error.message), line=error.lineno)]
    except (jinja2.TemplateError, ArithmeticError, RecursionError, SyntaxError, TypeError, ValueError) as error:
        return [Problem(name, f"cannot be compiled ({type(error).__name__})")]


def _check(name: str, tree: nodes.Template) -> Iterator[Problem]:
    used = set()
    for number, (node, depth) in enumerate(_walk(tree)):
        if number >= MOST_NODES or depth > DEEPEST:
            yield Problem(name, "the template is too intricate: a block is text with a few variables", line=node.lineno)
            return
        if not isinstance(node, _NODES):
            said = _SAID.get(type(node), f"{type(node).__name__}")
            yield Problem(name, f"a block's template cannot use {said}", line=node.lineno)
        elif isinstance(node, nodes.Name):
            used.add(node.name)
            if node.name not in VARIABLES:
                known = ", ".join(sorted(VARIABLES))
                yield Problem(name, f"unknown variable {node.name!r}; there are {known}", line=node.lineno)
        elif isinstance(node, nodes.Filter | nodes.Test):
            allowed = _FILTERS if isinstance(node, nodes.Filter) else _TESTS
            if node.name not in allowed:
                kind = type(node).__name__.lower()
                yield Problem(name, f"unknown {kind} {node.name!r}; there are {', '.join(allowed)}", line=node.lineno)
    for missing in sorted(REQUIRED - used):
        yield Problem(name, f"the template must use {{{{ {missing} }}}}")


def _walk(tree: nodes.Node) -> Iterator[tuple[nodes.Node, int]]:
    """Every node and how deep it lies, in the order of the source, without recursion."""
    stack = [(tree, 0)]
    while stack:
        node, depth = stack.pop()
        yield node, depth
        stack += [(child, depth + 1) for child in reversed(list(node.iter_child_nodes()))]


def _clean(name: str) -> str:
    """A name as it may stand in a mail: one line, nothing invisible, nothing that turns the writing's direction."""
    kept = []
    for character in name[: 4 * NAME_LIMIT]:
        category = unicodedata.category(character)
        if category in ("Cc", "Zl", "Zp"):
            kept.append(" ")
        elif category not in ("Cf", "Cs") and character not in _INVISIBLE:
            kept.append(character)
    return re.sub(" {2,}", " ", "".join(kept)).strip()[:NAME_LIMIT].strip()


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WFA" and not character.isascii() else 1


def _wrap(line: str) -> Iterator[str]:
    """The line in pieces of at most `WIDTH` columns, broken at a blank or between wide characters; URLs stay whole."""
    while "://" not in line and 2 * len(line) > WIDTH:  # no character has more than two columns
        width, best, best_next = 0, 0, 0
        for index, character in enumerate(line):
            if index and character != " " and _breakable(line[index - 1], character):
                best, best_next = index, index
            elif character == " " and index:
                best, best_next = index, index + 1
            width += _columns(character)
            if width > WIDTH:
                break
        else:
            break
        if not best or not line[:best].strip():
            break
        yield line[:best].rstrip()
        line = line[best_next:].lstrip(" ")
    yield line


def _breakable(before: str, after: str) -> bool:
    """Whether a line may end between two characters: Japanese has no blanks, but keeps some marks off the edges."""
    if after in _NOT_AT_START or before in _NOT_AT_END or unicodedata.combining(after):
        return False
    return _columns(before) == 2 or _columns(after) == 2
