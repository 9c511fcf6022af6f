"""Guesses the code page of file names that do not say theirs.

Detectors for running text, such as charset-normalizer, read 6 of 18 short names of folders wrong,
so the candidates are compared by what names are made of: common characters of one script.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# A tie goes to the first: a page with few common characters is stronger evidence.
_PAGES = (
    "utf-8", "cp932", "cp949", "gb18030", "big5", "cp866", "cp1251", "cp850", "cp1252", "cp1250",
    "cp437",
)  # fmt: skip
# The most frequent syllables of Korean; others are as likely to be Chinese characters misread.
_SYLLABLES = set(
    "이다는을의에가고하지로기은사도를인리한대서자시해과나일그정부수어전라보장아여스상제성있들구비주원"
    "세마만공동조무우소게용모경신국선할면유안중개적요러트오관계생없방화물통문진드행치차당내것미양발명각"
    "건강운영결때말연반법산업직위식육학교체력심권입단터실복준점현환예술초최량불품색꽃새람집손눈밥책과바합격음좋나쁨"
)


def guess(names: Iterable[bytes]) -> str:
    """The code page in which names look most like words.

    Args:
        names: raw names with bytes above 127.

    Returns:
        A name for `bytes.decode`: "utf-8" if all of them are, else the best of the code pages of
        Windows and DOS for Japanese, Korean, Chinese, Cyrillic and Latin scripts.
    """
    raw = sorted(set(names))
    scores = {page: _score(raw, page) for page in _PAGES}
    if scores["utf-8"] is not None:
        return "utf-8"
    return max((p for p in _PAGES if scores[p] is not None), key=lambda p: scores[p] or 0.0)


def _score(names: list[bytes], page: str) -> float | None:
    """How much names look like words in a code page, at most 1; None if they cannot be read."""
    total, weight = 0.0, 0
    for name in names:
        try:
            text = name.decode(page)
        except UnicodeError:
            return None
        for word in re.findall(r"[^\x00-\x40\[-`{-\x7f]*[^\x00-\x7f][^\x00-\x40\[-`{-\x7f]*", text):
            for place, c in enumerate(word):
                if c > "\x7f":
                    size = len(c.encode(page))
                    total += size * _likely(word, place, page)
                    weight += size
    return total / max(weight, 1)


def _likely(word: str, place: int, page: str) -> float:
    """How likely a character of a word is, from -1 to 1."""
    c = word[place]
    near = word[max(place - 1, 0) : place + 2].replace(c, "", 1)
    if not c.isalpha():
        return -1.0
    if page in ("cp932", "cp949", "gb18030", "big5"):
        if any(each < "\x80" for each in near) and not "\u3040" <= c <= "\u30ff":
            return -0.5  # one Chinese character inside a Latin word
        return _common(c, page)
    if page in ("cp866", "cp1251"):
        same = all("\u0400" <= each <= "\u04ff" for each in word)
        return 1.0 if same and not _odd_case(word, place) else -1.0
    latin = c.isalpha() and c < "\u0250" and c not in "ªº"
    if not latin or _odd_case(word, place):
        return -1.0
    return 0.8 if any(each < "\x80" for each in near) else 0.4


def _odd_case(word: str, place: int) -> bool:
    """Whether a capital follows a small letter, as in no word."""
    return word[place].isupper() and place > 0 and word[place - 1].islower()


def _common(c: str, page: str) -> float:
    """How common a character of an East Asian code page is, by its place in the standard."""
    code = c.encode(page)
    if len(code) != 2:
        return -0.5  # narrow kana, or four bytes
    lead, trail = code
    if page == "cp932":
        level = int.from_bytes(code, "big")
        return 1.0 if "\u3040" <= c <= "\u30ff" or 0x889F <= level <= 0x9872 else 0.2
    if page == "cp949":
        if 0xB0 <= lead <= 0xC8 and trail >= 0xA1:
            return 1.0 if c in _SYLLABLES else 0.5
        return 0.0
    if page == "gb18030":
        simple = trail >= 0xA1 and 0xB0 <= lead <= 0xF7
        return (0.9 if lead <= 0xD7 else 0.3) if simple else -0.3
    return 0.9 if 0xA4 <= lead <= 0xC6 else 0.3
