"""Raters of a study whose answers cannot be trusted: who always takes a side, guesses, or does not look.

Each test holds a rater against what a good one does, at a level that is divided by the number of raters and tests, so
that of many studies of good raters few flag anybody. A flag is a reason to look, and nothing is left out because of it
unless somebody asks for that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from scipy.stats import binomtest, combine_pvalues, fisher_exact

from sdg_data.metrics.preference import Comparison, side_counts

LEVEL = 0.05
"""How likely a study of raters who are just good enough flags anybody; of better ones it is far less likely."""
WRONG_TIES = 0.15
"""A good rater sees a difference between two copies of one image at most so often."""
CONSISTENT = 0.5
"""A good rater answers a repeated trial as before at least so often (guessing among three answers: a third)."""
TESTS = 3
"""One of sides, one of care (pairs of one image and repeated trials together, by Fisher's method), one of agreement."""

Outcomes = Mapping[tuple[str, str, str], int]
"""What a rater said: (item, arm, other arm) -> 1, 0 or -1, the arms in alphabetical order."""


@dataclass(frozen=True)
class Consensus:
    """How often a rater says the same as another one (`own` of `compared`), and the others as each other.

    Of each question one other rater is compared, in turn, so that the comparisons are independent.
    """

    own: int
    compared: int
    others: int
    others_compared: int

    @property
    def chance(self) -> float:
        """The p of agreeing with others so rarely while agreeing as often as they do (Fisher's exact test)."""
        if not (self.compared and self.others_compared):
            return 1.0
        table = [[self.own, self.compared - self.own], [self.others, self.others_compared - self.others]]
        return float(fisher_exact(table, "less").pvalue)


def outcomes_of(comparisons: Sequence[Comparison]) -> dict[tuple[str, str, str], int]:
    """A rater's comparisons as `Outcomes`."""
    ordered = [comparison.seen_from(min(comparison.first, comparison.second)) for comparison in comparisons]
    return {(row.item, row.first, row.second): row.outcome for row in ordered}


def consensus(rater: str, outcomes: Mapping[str, Outcomes]) -> Consensus:
    """How a rater's answers agree with those of the others.

    Args:
        rater: The name.
        outcomes: Rater -> what the rater said, of all raters.

    Returns:
        The counts; nothing is compared among the others where there are fewer than two.
    """
    own = compared = others_agree = others_compared = 0
    others = [answers for name, answers in sorted(outcomes.items()) if name != rater]
    for number, question in enumerate(sorted({question for answers in outcomes.values() for question in answers})):
        said = [answers[question] for answers in others if question in answers]
        if question in outcomes[rater] and said:
            own += outcomes[rater][question] == said[number % len(said)]
            compared += 1
        if len(said) > 1:
            others_agree += said[number % len(said)] == said[(number + 1) % len(said)]
            others_compared += 1
    return Consensus(own, compared, others_agree, others_compared)


@dataclass(frozen=True)
class RaterFigures:
    """What a rater did. `flags` are sentences, empty for a rater who passes.

    `identical` and `identical_wrong`: pairs of one image, and how many of them were not called the same.
    `repeated` and `repeated_same`: trials asked twice, and how many got the same answer.
    `left`, `right`, `same`: which side won, in trials of two images that were judged.
    """

    rater: str
    votes: int
    left: int
    right: int
    same: int
    identical: int
    identical_wrong: int
    repeated: int
    repeated_same: int
    median_seconds: float | None
    flags: tuple[str, ...]


def rater_figures(
    rater: str,
    *,
    judged: Sequence[Comparison],
    identical: Sequence[Comparison],
    repeats: Sequence[tuple[Sequence[Comparison], Sequence[Comparison]]],
    seconds: Sequence[float],
    agreement: Consensus,
    raters: int,
) -> RaterFigures:
    """The figures and flags of a rater.

    Args:
        rater: The name.
        judged: The rater's comparisons of different images, repeats left out.
        identical: Comparisons of an image with itself.
        repeats: Of each trial that was asked twice the comparisons of the first and of the second answer, alike in
            their order and arms.
        seconds: Of each vote.
        agreement: With the other raters.
        raters: How many raters are tested, for the level.

    Returns:
        The figures.
    """
    sides = side_counts(judged)
    wrong = sum(comparison.outcome != 0 for comparison in identical)
    same = sum([a.outcome for a in first] == [b.outcome for b in second] for first, second in repeats)
    level = LEVEL / (TESTS * max(1, raters))
    flags = []
    decided = sides["left"] + sides["right"]
    if decided and binomtest(sides["left"], decided).pvalue < level:
        side = "left" if sides["left"] > sides["right"] else "right"
        flags.append(f"takes the {side} image: {sides[side]} of {decided} decisions")
    chances = []
    if identical:
        chances.append(binomtest(wrong, len(identical), WRONG_TIES, "greater").pvalue)
    if repeats:
        chances.append(binomtest(same, len(repeats), CONSISTENT, "less").pvalue)
    if chances and combine_pvalues(chances, "fisher").pvalue < level:
        flags.append(
            f"does not look closely: sees a difference in {wrong} of {len(identical)} pairs of one and the same image, "
            f"and gives the answer of before in {same} of {len(repeats)} repeated trials"
        )
    if agreement.chance < level:
        flags.append(
            f"says the same as another rater in {agreement.own} of {agreement.compared} questions, "
            f"the others in {agreement.others} of {agreement.others_compared}"
        )
    return RaterFigures(
        rater=rater,
        votes=len(seconds),
        left=sides["left"],
        right=sides["right"],
        same=sides["same"],
        identical=len(identical),
        identical_wrong=wrong,
        repeated=len(repeats),
        repeated_same=same,
        median_seconds=median(seconds) if seconds else None,
        flags=tuple(flags),
    )
