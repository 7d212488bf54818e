"""Whether an answer in good form can be believed: empty lists beside words, refusals, lists that repeat themselves.

"No defects" is a claim, and a list that happens to be empty is none where the words around it say something else, or
that the image was never seen. Both readers of answers (`parse` and `fast`) ask here.
"""

import re
from collections import Counter
from collections.abc import Hashable, Iterable

from schemas.answer.codes import Reason, Rejection, shown
from schemas.answer.text import is_refusal

MOST_EQUAL = 3
"""How often a list may have the same box with the same label and description."""
MOST_BOXES = 16
"""How often it may have the same box, whatever is said of it: a whole image can be wrong in several ways."""
_LONGEST_AROUND = 400

_ADJECTIVES = r"(?:(?:visible|obvious|apparent|clear|noticeable|significant|major|other|such|real) )*"
_NOUN = (
    r"(?:defects?|art[ei]facts?|misalignments?|issues?|problems?|errors?|flaws?|anomal(?:y|ies)|glitch(?:es)?"
    r"|inconsistenc(?:y|ies))"
)
_NOUNS = rf"{_ADJECTIVES}{_NOUN}(?: (?:(?:or|and|nor) )?{_ADJECTIVES}{_NOUN}){{0,3}}"
_WHERE = r"(?: (?:in|with|on) (?:the|this) (?:image|picture|photo))?"
_VERBS = (
    r"(?: (?:is|are|was|were|have been|could be))?(?: (?:found|detected|visible|present|seen|identified|observed))?"
)
_NOT = r"(?:do not|don['’]t|did not|didn['’]t|cannot|can['’]t|could not|couldn['’]t)"
_FINDS_NOTHING = re.compile(rf"\s*i {_NOT} (?:see|find|detect) any {_NOUNS}\b", re.IGNORECASE)
"""Begins as a refusal does, and is none."""
_QUIET = re.compile(
    r"(?:(?:"
    rf"(?:there (?:is|are|were) )?no {_NOUNS}{_VERBS}{_WHERE}"
    rf"|(?:i|we) (?:see|saw|find|found|detect|detected|observe|observed) no {_NOUNS}{_WHERE}"
    rf"|(?:i|we) {_NOT} (?:see|find|detect) any {_NOUNS}{_WHERE}"
    rf"|(?:the|this) image (?:is|looks|appears|seems)(?: to be)?"
    rf" (?:clean|fine|good|correct|(?:free of|without)(?: any)? {_NOUNS})"
    r"|sure|certainly|of course|okay|ok|alright|done"
    r"|(?:(?:here|this|below) is )?(?:(?:the|my) )?(?:(?:final|requested|json|empty) )?"
    r"(?:answer|results?|output|list|json|response|assessment|evaluation|analysis)(?: is)?(?: (?:below|empty))?"
    r")(?: |$))*"
)
"""Words that a clean image's answer may have around its list: polite openings, titles, and that nothing is wrong."""
_UNSEEN = re.compile(
    r"\b(?:can(?:no|['’]?)t|can not|could(?:n['’]?t| not)|unable to|not able to|do(?:n['’]?t| not))"
    r" (?:\w+ ){0,2}?(?:see|view|access|open|load|display|process|analy[sz]e|inspect|evaluate|assess|have)"
    r" (?:the|this|that|your|an|any)? ?(?:\w+ )?(?:image|picture|photo)s?\b"
    r"(?! (?:defects?|art[ei]facts?|issues?|flaws?|problems?|errors?))"
    r"|\bno (?:image|picture|photo) (?:is |was |has been )?(?:provided|attached|visible|given|received|found|there)"
    r"|\b(?:image|picture|photo) (?:is|was|has|did|does|could)(?:n['’]?t| not)(?: been| be)?"
    r" (?:provided|attached|visible|given|received|found|load(?:ed)?|accessible|available|seen)"
    r"|无法(?:查看|看到|访问|打开)|看不到(?:图|任何图)|没有(?:看到|收到)?图[片像]",
    re.IGNORECASE,
)


_SIGHTS = ("image", "picture", "photo")
_DENIALS = (
    *("not ", "n't", "unable", "cant", "couldnt", "dont", "isnt", "wasnt", "hasnt", "didnt", "doesnt"),
    *(f"no {sight}" for sight in _SIGHTS),
)
"""One of each stands in every ASCII text that `_UNSEEN` finds; the pattern takes a millisecond on a long trace."""


def never_seen(text: str) -> bool:
    """Does the text decline, or say that there was no image to be seen?"""
    if is_refusal(text) and _FINDS_NOTHING.match(text) is None:
        return True
    if text.isascii():
        lower = text.lower()
        if not any(word in lower for word in _SIGHTS) or not any(word in lower for word in _DENIALS):
            return False
    return _UNSEEN.search(text) is not None


def check_empty(around: str, trace: str | None) -> None:
    """Check that an empty list is the claim of a clean image.

    Args:
        around: The words outside trace and list.
        trace: The trace.

    Raises:
        Rejection: refused, words-beside-empty.
    """
    for text in (around, trace or ""):
        if never_seen(text.strip()):
            raise Rejection(Reason.REFUSED, f"an empty list, and: {shown(text.strip(), 60)}")
    words = re.sub(r"[^\w']+", " ", around.lower().replace("’", "'")).strip()
    if len(words) > _LONGEST_AROUND or _QUIET.fullmatch(words) is None:
        raise Rejection(Reason.WORDS_BESIDE_EMPTY, f"an empty list, and words beside it: {shown(around.strip(), 60)}")


def repeats_itself(items: Iterable[tuple[Hashable, Hashable]]) -> bool:
    """Does a list say the same so often that a model was caught in a loop?

    Args:
        items: The box of each item, and what is said of it (label and description).

    Returns:
        Whether one box with the same words stands there over `MOST_EQUAL` times, or one box over `MOST_BOXES` times.
    """
    counts = Counter(items)
    if max(counts.values(), default=0) > MOST_EQUAL:
        return True
    boxes: Counter[Hashable] = Counter()
    for (box, _), count in counts.items():
        boxes[box] += count
    return max(boxes.values(), default=0) > MOST_BOXES
