"""One spelling for each word: what lets one phrase of an admin cover every way in which people write it.

Two steps, and both an admin's phrase and a mail's text go through both of them:

`clean`   what the eye does not see: NFKC (half-width kana, full-width Latin), zero-width and control characters,
          many blanks and quotation marks. Case and kanji stay, so the result can be shown to a person. Line ends stay.
`fold`    what the reader does not care about: 添/沿, 御/ご/お, 致す/いたす, 頂く/いただく, 出来る/できる …,
          blanks beside Japanese characters, English case and contractions, letter-spaced words. The result is only
          for comparing: it may cut or join words in odd ways (事 → こと also in 人事), but in phrase and text alike.

Both are linear in their input.
"""

from __future__ import annotations

import re
import unicodedata

JAPANESE = "\u3001-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff々〆ヶ"
"""Kana, kanji and Japanese punctuation, as the inside of a regular expression's character class."""

# Soft hyphen, zero-width (joiners, word joiner, BOM), direction marks, variation selectors, Hangul fillers, the
# C0/C1 controls, and lone surrogates (a decoder's debris, which RE2 cannot take). All below U+10000: one character
# above it makes the regular expression over them many times slower.
_UNSEEN = {
    **dict.fromkeys(range(0xD800, 0xE000)),
    **dict.fromkeys([0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180E, 0x3164, 0xFEFF, 0xFFA0]),
    **dict.fromkeys(range(0x200B, 0x2010)),
    **dict.fromkeys(range(0x202A, 0x202F)),
    **dict.fromkeys(range(0x2060, 0x2070)),
    **dict.fromkeys(range(0xFE00, 0xFE10)),
    **dict.fromkeys(code for code in range(0x20) if code not in (0x09, 0x0A)),
    **dict.fromkeys(range(0x7F, 0xA0)),
}
_LOOKS: dict[int, int | str | None] = {
    **_UNSEEN,
    0x09: " ",
    0x2028: "\n",
    0x2029: "\n",
    **str.maketrans("‘’‚′`´", "''''''"),
    **str.maketrans("“”„″", '""""'),
    **str.maketrans("‐‑‒–—―−", "-------"),
    **str.maketrans("〜～", "~~"),
    **str.maketrans("｡､", "。、"),
    **str.maketrans("┃│║┆┇┊┋", "|||||||"),
}
_ODD = re.compile(f"[{re.escape(''.join(map(chr, _LOOKS)))}]")
"""What `_LOOKS` changes: most texts have none of it, and looking is a tenth of translating."""
_COMMA = re.compile(f"(?<=[{JAPANESE}])，")
_STOP = re.compile(f"(?<=[{JAPANESE}])．")
_BLANKS = re.compile(r"[ \u00a0\u3000]{2,}|[\u00a0\u3000]")

# One character for another, wherever it stands. Kanji that are read alike in our phrases, honorific 御.
_LETTERS = (
    ("沿", "添"), ("御", "ご"), ("致", "いた"), ("至", "いた"), ("頂", "いただ"), ("事", "こと"), ("為", "ため"),
)  # fmt: skip
# Ordered: each is done on the outcome of those above it.
_WORDS: tuple[tuple[str, str], ...] = (
    ("副い", "添い"), ("副え", "添え"), ("副う", "添う"), ("そいかね", "添いかね"), ("そえな", "添えな"),
    ("そえま", "添えま"), ("兼ね", "かね"), ("ありがた", "有難"), ("有り難", "有難"), ("がたい", "かねる"),
    ("がたく", "かね"), ("難く", "かね"), ("出来", "でき"), ("下さ", "くださ"), ("無い", "ない"), ("無く", "なく"),
    ("無か", "なか"), ("誠に", "まことに"), ("真に", "まことに"), ("申上げ", "申し上げ"), ("申しあげ", "申し上げ"),
    ("申しわけ", "申し訳"), ("申訳", "申し訳"), ("此", "こ"), ("この度", "このたび"), ("こん回", "今回"),
    ("こんかい", "今回"), ("戴", "いただ"), ("貰", "もら"), ("見遅", "見送"), ("見おく", "見送"),
    ("みおく", "見送"), ("見送く", "見送"),
    ("なっかた", "なかった"), ("みあわせ", "見合わせ"), ("見合せ", "見合わせ"), ("応え", "こたえ"),
    ("答え", "こたえ"), ("叶", "かな"), ("適わ", "かなわ"), ("適い", "かない"), ("差控え", "差しひかえ"),
    ("控え", "ひかえ"), ("断り", "ことわり"), ("断ら", "ことわら"), ("断る", "ことわる"), ("訳では", "わけでは"),
    ("訳には", "わけには"), ("行な", "行"), ("履暦", "履歴"), ("及ばな", "およばな"), ("及びま", "およびま"),
    ("おうぼ", "応募"), ("やとう", "雇う"), ("やとえ", "雇え"), ("やとい", "雇い"),
    ("ざんねん", "残念"), ("めんせつ", "面接"), ("さいよう", "採用"), ("しごと", "仕事"), ("せんこう", "選考"),
    ("皆さま", "皆様"), ("みなさま", "皆様"), ("皆さん", "皆様"),
)  # fmt: skip
_REPLACED = (*_LETTERS, *_WORDS)
_HONORIFIC = re.compile("お(?=[\u3400-\u9fff])")
_BESIDE = re.compile(f"(?<=[{JAPANESE}]) +| +(?=[{JAPANESE}])")
_SPACED = re.compile(r"(?<![a-z0-9])(?:[a-z] ){3,}[a-z](?![a-z0-9])")
_LATIN = re.compile("[a-z]")
_RUNS = re.compile(" {2,}")
# Slips of hurried writers: contractions without their apostrophe and the words of our phrases misspelt.
_SLIPS = {
    "wont": "will not", "dont": "do not", "cant": "can not",
    "didnt": "did not", "doesnt": "does not", "wasnt": "was not",
    "isnt": "is not", "arent": "are not", "werent": "were not",
    "havent": "have not", "hasnt": "has not", "couldnt": "could not",
    "wouldnt": "would not", "youre": "you are", "youve": "you have",
    "youll": "you will", "weve": "we have", "thats": "that is",
    "unfortunatly": "unfortunately", "unfortunetly": "unfortunately", "unfortunatley": "unfortunately",
    "unfortuantely": "unfortunately", "aplication": "application", "applicaton": "application",
    "aplicant": "applicant", "interveiw": "interview", "intervew": "interview",
    "canidate": "candidate", "candiate": "candidate", "posistion": "position",
    "postion": "position", "sucessful": "successful", "succesful": "successful",
    "successfull": "successful", "unsucessful": "unsuccessful", "unsuccesful": "unsuccessful",
    "foward": "forward", "forwad": "forward", "proceded": "proceeded",
    "selcted": "selected", "apprentise": "apprentice", "aprentice": "apprentice",
    "oppurtunity": "opportunity", "recieved": "received", "gonna": "going to",
    "thx": "thanks",
}  # fmt: skip
_SLIP = re.compile(r"\b(?:" + "|".join(sorted(_SLIPS, key=len, reverse=True)) + r")\b")
_CONTRACTIONS: tuple[tuple[str, str], ...] = (
    ("can't", "can not"), ("cannot", "can not"), ("won't", "will not"), ("shan't", "shall not"), ("n't", " not"),
    ("'ve", " have"), ("'re", " are"), ("'ll", " will"), ("i'm", "i am"), ("'d ", " would "), ("it's", "it is"),
    ("that's", "that is"), ("there's", "there is"), ("let's", "let us"), ("e-mail", "email"), ("programme", "program"),
    ("organis", "organiz"),
)  # fmt: skip


def clean(text: str) -> str:
    """The text as the eye sees it: one kind of blank, dash and quotation mark, nothing invisible; "\\n" line ends."""
    if text.isascii():
        return _BLANKS.sub(" ", text.translate(_LOOKS)) if not text.isprintable() else _BLANKS.sub(" ", text)
    text = _COMMA.sub("、", text)
    text = _STOP.sub("。", text)
    if _ODD.search(text):
        text = text.translate(_LOOKS)
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    return _BLANKS.sub(" ", text)


def fold(text: str) -> str:
    """The comparable form of a *cleaned* text. Every "\\n" stays where it is; nothing moves across one."""
    text = text.lower()
    if not text.isascii():
        text = _BESIDE.sub("", text)
        text = fold_japanese(text)
    if _LATIN.search(text):
        for written, meant in _CONTRACTIONS:
            text = text.replace(written, meant)
        text = _SLIP.sub(lambda slip: _SLIPS[slip[0]], text)
        text = _SPACED.sub(lambda spaced: spaced[0].replace(" ", ""), text)
    return _RUNS.sub(" ", text) if "  " in text else text


def fold_japanese(text: str) -> str:
    """The Japanese half of `fold` alone: harmless to the signs of a regular expression."""
    for written, meant in _REPLACED:
        text = text.replace(written, meant)
    return _HONORIFIC.sub("ご", text)


def phrase(text: str) -> str:
    """An admin's phrase in the form in which texts are compared."""
    return fold(clean(text)).strip()
