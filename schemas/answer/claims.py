"""Whether an answer in good form can be believed: empty lists beside words, refusals, lists that repeat themselves.

"No defects" is a claim, and a list that happens to be empty is none where the words around it say something else, or
that the image was never seen. Both readers of answers (`parse` and `fast`) ask here.
"""

import re
from collections import Counter
from collections.abc import Sequence

from schemas.answer.codes import Reason, Rejection, shown
from schemas.answer.unseen import FIND, NOT, NOUN, NOUNS, never_seen

MOST_EQUAL = 3
"""How often a list may have the same box with the same label and description."""
MOST_BOXES = 16
"""How often it may have the same box, or ones that nearly lie on it, whatever is said of them: a whole image can be
wrong in several ways."""
MOST_WORDS = 64
"""How often it may say the same, wherever the boxes are."""
_LOOKED_AT = 64
"""So many boxes of a list, spread over it, are compared with all: the work stays linear."""
_NEARLY = 0.7
"""IoU from which on one box nearly lies on another."""
_LONGEST_AROUND = 400

_WHERE = r"(?: (?:in|with|on) (?:the|this) (?:image|picture|photo))?"
_VERBS = (
    r"(?: (?:is|are|was|were|have been|could be))?(?: (?:found|detected|visible|present|seen|identified|observed))?"
)
_QUIET = re.compile(
    r"(?:(?:"
    rf"(?:there (?:is|are|were) )?no {NOUNS}{_VERBS}{_WHERE}"
    rf"|(?:i|we) (?:see|saw|find|found|detect|detected|observe|observed) no {NOUNS}{_WHERE}"
    rf"|(?:i|we) {NOT} {FIND} any {NOUNS}{_WHERE}"
    rf"|(?:the|this) image (?:is|looks|appears|seems)(?: to be)?"
    rf" (?:clean|fine|good|correct|(?:free of|without)(?: any)? {NOUNS})"
    r"|sure|certainly|of course|okay|ok|alright|done"
    r"|(?:(?:here|this|below) is )?(?:(?:the|my) )?(?:(?:final|requested|json|empty) )?"
    r"(?:answer|results?|output|list|json|response|assessment|evaluation|analysis)(?: is)?(?: (?:below|empty))?"
    r")(?: |$))*"
)
"""Words that a clean image's answer may have around its list: polite openings, titles, and that nothing is wrong."""
_COUNTED = r"(?:an?|one|two|three|four|five|six|several|some|many|multiple|minor|major|visible|clear|\d+)"
_STATED = re.compile(
    r"(?:^|[.!?;:\n])[ \t]{0,8}(?:(?:[-*]|\d{1,3}[.)])[ \t]{1,8})?"
    r"(?:(?:step \d+|however|but|also|overall|therefore|so|thus)[,:.]? ){0,3}"
    rf"(?:there (?:is|are)|there['’]s|(?:i|we) (?:can )?{FIND}|the (?:image|picture|photo) (?:has|contains|shows))"
    rf" {_COUNTED} (?:\w{{1,32}} ){{0,2}}?{NOUN}\b(?![-‑]| free)",
    re.IGNORECASE,
)
"""A sentence that states a defect ("There are two artifacts"); not one behind an "if" or a "whether"."""
_FAULTS = (
    *("defect", "artifact", "artefact", "misalignment", "issue", "problem", "error", "flaw", "anomal", "glitch"),
    "inconsistenc",
)
_BOX = re.compile(r"[\[(]\s{0,8}\d{1,4}(?:\.\d{1,8})?(?:\s{0,8},\s{0,8}\d{1,4}(?:\.\d{1,8})?){3}\s{0,8}[\])]")


def is_doubtful(trace: str) -> bool:
    """Does a trace in front of an empty list say that the image was never seen, or state a defect?"""
    return never_seen(trace.strip()) or _claims(trace)


def _claims(trace: str) -> bool:
    """Does a trace state a defect, or a box?"""
    for opening in "[(":
        place = trace.find(opening)
        while place >= 0:
            if _BOX.match(trace, place) is not None:
                return True
            place = trace.find(opening, place + 1)
    lower = trace.lower()  # the pattern takes a tenth of a millisecond, and needs one of these words
    return any(map(lower.__contains__, _FAULTS)) and _STATED.search(trace) is not None


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
    if trace and _claims(trace):
        raise Rejection(Reason.WORDS_BESIDE_EMPTY, "an empty list, and a trace that states a defect")
    words = re.sub(r"[^\w']+", " ", around.lower().replace("’", "'")).strip()
    if len(words) > _LONGEST_AROUND or _QUIET.fullmatch(words) is None:
        raise Rejection(Reason.WORDS_BESIDE_EMPTY, f"an empty list, and words beside it: {shown(around.strip(), 60)}")


def repeats_itself(items: Sequence[tuple[tuple[int, int, int, int], str, str]]) -> bool:
    """Does a list say the same so often that a model was caught in a loop?

    Args:
        items: The box of each item (x0, y0, x1, y1), its label and its description.

    Returns:
        Whether the same words stand there, case and spaces apart, over `MOST_EQUAL` times with one box or over
        `MOST_WORDS` times with any; or whether over `MOST_BOXES` boxes nearly lie on one of them.
    """
    counts = Counter((box, label, " ".join(words.lower().split())) for box, label, words in items)
    if max(counts.values(), default=0) > MOST_EQUAL:
        return True
    if len(items) <= MOST_BOXES:
        return False
    said: Counter[tuple[str, str]] = Counter()
    for (_, label, words), count in counts.items():
        said[label, words] += count
    if max(said.values()) > MOST_WORDS:
        return True
    boxes = [box for box, _, _ in items]
    looked_at = {boxes[index * len(boxes) // _LOOKED_AT] for index in range(_LOOKED_AT)}
    return any(sum(_nearly_equal(box, other) for other in boxes) > MOST_BOXES for box in looked_at)


def _nearly_equal(first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> bool:
    """Whether the IoU of two boxes reaches `_NEARLY`."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return False
    both = width * height
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return both >= _NEARLY * (areas - both)
