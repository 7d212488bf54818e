"""What a judge of two images is asked, and how strictly its answer is read.

    plain   ours: one line, "Image 1", "Image 2" or "Tie"
    think   UnifiedReward-Think: <think> … </think><answer>Image 1 is better</answer>; it knows no tie
    flex    UnifiedReward-Flex: JSON with categories of dimensions, whose two scores sum to 10, and winners

An answer that breaks its protocol anywhere is no answer: nothing is guessed from what is left of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from trainers.rewards.pairwise import JudgedPair

OVERALL_WEIGHT: Final = 1.0
CATEGORY_WEIGHT: Final = 1.0
"""Of the winner and of the mean of the categories' winners in `flex`, as in Pref-GRPO's code."""
_SUM: Final = 10

PLAIN: Final = """\
You see two images that were generated from one text caption. Decide which of them is better: it shows what the caption
says, it has no glitches, distortions or impossible parts, and it is pleasing to look at, in this order.

Answer with one line and nothing else: Image 1, Image 2, or Tie if neither is better.

Caption: [{prompt}]"""

THINK: Final = """\
You compare two images that were generated from a text caption, and decide which one is better.

1. The caption is: 「{prompt}」. Judge both images by
- Semantic consistency (how closely the content follows the caption)
- Aesthetics (composition, colours, artistic expression)
- Authenticity (realism and attention to detail)
and by up to two further dimensions that matter for this caption.
2. For each dimension give both images a score from 1 to 10 with a short rationale:
Dimension name:
    Image 1 (x/10) - rationale;
    Image 2 (y/10) - rationale
3. Then the sums:
Total score:
Image 1: x+x+x=total
Image 2: y+y+y=total

Everything so far stands inside <think> and </think>. After it, <answer> and </answer> hold one of these, nothing else:
Image 1 is better
Image 2 is better"""

FLEX: Final = """\
You compare two images that were generated from a text caption: 「{prompt}」. Choose what matters for this caption in
three or four categories, each with three to five dimensions. Answer with JSON and nothing else:
{"categories": [{"name": "…", "dims": [{"name": "…", "score_1": 6, "score_2": 4, "rationale": "…"}],
"cat_winner": "Image 1"}], "winner": "Image 1"}
The two scores of a dimension sum to 10."""


@dataclass(frozen=True)
class PairProtocol:
    """A question, with `{prompt}` where the caption goes, and how its answer is read."""

    question: str
    read: Callable[[str], JudgedPair]

    def ask(self, prompt: str) -> str:
        """The question about images of a prompt."""
        return self.question.replace("{prompt}", prompt)


def read_plain(text: str) -> JudgedPair:
    """The verdict of a one-line answer."""
    verdicts = {"image 1": 1.0, "image 2": 0.0, "tie": 0.5}
    said = text.strip().rstrip(".").strip("*").strip().lower()
    return JudgedPair(verdicts[said]) if said in verdicts else JudgedPair(None, f"no verdict: {text.strip()[:60]!r}")


def read_think(text: str) -> JudgedPair:
    """The verdict of an answer that thinks once and answers once, and says nothing else."""
    match = _THOUGHT.fullmatch(text)
    if match is None:
        return JudgedPair(None, "not <think>…</think><answer>Image N is better</answer>")
    return JudgedPair(1.0 if match[1] == "1" else 0.0)


def read_flex(text: str) -> JudgedPair:
    """The first image's share of the win by the categories' winners and the winner, all of which have to be there."""
    try:
        answer = json.loads(text.strip().removeprefix("```json").removesuffix("```"))
    except (ValueError, RecursionError):
        return JudgedPair(None, "no JSON")
    if not isinstance(answer, dict):
        return JudgedPair(None, "no JSON object")
    categories = answer.get("categories")
    if not isinstance(categories, list) or not 3 <= len(categories) <= 4:
        return JudgedPair(None, "not three or four categories")
    won = []
    for category in categories:
        problem = _category_problem(category)
        if problem:
            return JudgedPair(None, problem)
        won.append(_winner(category["cat_winner"]))
    winner = _winner(answer.get("winner"))
    if winner is None:
        return JudgedPair(None, "no winner")
    mean = sum(share for share in won if share is not None) / len(won)
    return JudgedPair((OVERALL_WEIGHT * winner + CATEGORY_WEIGHT * mean) / (OVERALL_WEIGHT + CATEGORY_WEIGHT))


PROTOCOLS: Final[Mapping[str, PairProtocol]] = {
    "pairwise": PairProtocol(PLAIN, read_plain),
    "pairwise-think": PairProtocol(THINK, read_think),
    "pairwise-flex": PairProtocol(FLEX, read_flex),
}
"""Kind of base reward -> its protocol."""

_TAGLESS: Final = r"(?:(?!</?(?:think|answer)>).)*"
_THOUGHT: Final = re.compile(
    rf"\s*<think>{_TAGLESS}</think>\s*<answer>\s*Image ([12]) is better\.?\s*</answer>\s*", re.DOTALL
)


def _category_problem(category: Any) -> str:
    """What is wrong with a category, "" for nothing."""
    if not isinstance(category, dict) or _winner(category.get("cat_winner")) is None:
        return "a category without a winner"
    dims = category.get("dims")
    if not isinstance(dims, list) or not dims:
        return "a category without dimensions"
    for dim in dims:
        said = [dim.get(name) for name in ("score_1", "score_2")] if isinstance(dim, dict) else []
        scores = [score for score in said if isinstance(score, int | float) and not isinstance(score, bool)]
        if len(scores) != 2:
            return "a dimension without two scores"
        if not all(0 <= score <= _SUM for score in scores) or abs(sum(scores) - _SUM) > 1e-6:
            return "two scores that do not sum to 10"
    return ""


def _winner(said: Any) -> float | None:
    """1 for the first image, 0 for the second."""
    names = {"image 1": 1.0, "image 2": 0.0}
    return names.get(said.strip().lower()) if isinstance(said, str) else None
