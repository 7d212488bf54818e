"""Characters that nobody sees: which of them a text loses before it is compared with others.

Unicode calls them default-ignorable: zero-width spaces, soft hyphens, word joiners, byte order marks, marks of
direction, variation selectors, fillers, tags. Texts come with them by copying from pages and chats, and look the same
with and without. So they are stripped, except where they decide what is seen:

- a zero-width joiner between two emoji (a family, a rainbow flag), and the tags behind a black flag (Scotland's);
- a zero-width joiner behind a letter, and a non-joiner between letters, of a script that joins its letters: Arabic and
  its neighbours, the scripts of India and South-East Asia, Tibetan, Mongolian;
- Mongolian's own selectors behind a Mongolian letter.

Variation selectors of emoji go: the heart with one and the heart without are one prompt.
"""

import re
import unicodedata
from typing import Final

# Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties.txt.
_RANGES: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
INVISIBLE: Final = f"[{_RANGES}]"
"""A pattern that one of them matches, for `re` as for DuckDB."""
_RUN: Final = re.compile(f"{INVISIBLE}+")
_EMOJI: Final = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u25a0-\u27bf\u2900-\u297f"
    "\u2b00-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
# Arabic, Syriac, Thaana, N'Ko, Mandaic; Devanagari to Sinhala; Tibetan; Myanmar; Khmer; Mongolian; Balinese to Batak;
# Arabic's presentation forms.
_JOINING: Final = re.compile(
    "[\u0600-\u07ff\u0840-\u08ff\u0900-\u0dff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u1820-\u18aa\u1a20-\u1aaf"
    "\u1b00-\u1bff\ua8e0-\ua8ff\ufb50-\ufdff\ufe70-\ufefc]"
)
_MONGOLIAN: Final = re.compile("[\u1820-\u18aa]")
_BLACK_FLAG: Final = "\U0001f3f4"
_JOINER, _NON_JOINER = "\u200d", "\u200c"


def strip_invisible(text: str) -> str:
    """The text without the characters that nobody sees. Doing it twice changes nothing more."""
    return _RUN.sub(_kept, text)


def _kept(run: re.Match[str]) -> str:
    """What stays of a run of such characters, by the characters that stand before and behind it."""
    text, characters = run.string, run[0]
    before, behind = text[run.start() - 1 : run.start()], text[run.end() : run.end() + 1]
    kept = ""
    if before == _BLACK_FLAG:
        kept = "".join(character for character in characters if "\U000e0020" <= character <= "\U000e007f")
    elif _MONGOLIAN.match(before):
        kept = next((character for character in characters if "\u180b" <= character <= "\u180f"), "")
    if _JOINER in characters and _EMOJI.match(before) and _EMOJI.match(behind):
        return kept + _JOINER
    joiner = next((character for character in characters if character in (_JOINER, _NON_JOINER)), "")
    if _is_letter(before) and (joiner == _JOINER or (joiner == _NON_JOINER and _is_letter(behind))):
        return kept + joiner
    return kept


def _is_letter(character: str) -> bool:
    """Whether a character is a letter, or a mark on one, of a script that joins its letters."""
    return bool(_JOINING.match(character)) and unicodedata.category(character)[0] in "LM"
