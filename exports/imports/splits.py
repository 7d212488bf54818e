"""Which split a row of an outside source is in, by its own word.

Published splits stay as they are: `train` and `test`, in any case. A third one (val, validation, dev) is no split of
ours; whether it is trained on or measured on is for a person to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from exports.formats.contract import RejectedRow
from schemas.records import Split
from sdg_data.errors import ConfigError

_TRAIN = frozenset({"train", "training"})
_TEST = frozenset({"test", "testing"})
_OTHERS = frozenset(
    {"val", "valid", "validation", "dev", "devel", "development", "eval", "evaluation", "minival", "trainval"}
)


@dataclass(frozen=True)
class SplitRule:
    """What is said about a source's splits.

    `given`: the split of rows that say neither train nor test, or nothing. `by_name`: what other words mean.
    """

    given: Split | None = None
    by_name: Mapping[str, Split] = field(default_factory=dict)

    def split_of(self, name: str, stated: object) -> Split | None:
        """The split of a row; None where nothing is said, so that it follows from the prompt.

        Args:
            name: Names the row in a rejection.
            stated: The row's word for its split; None or "" is none.

        Raises:
            RejectedRow: The word is neither train nor test, and nobody said what it means.
        """
        if stated is None or stated == "":
            return self.given
        if isinstance(stated, str):
            word = stated.strip().casefold()
            if word in self.by_name:
                return self.by_name[word]
            if word in _TRAIN | _TEST:
                return Split.TRAIN if word in _TRAIN else Split.TEST
            if self.given is not None:
                return self.given
        hint = "--split train or test says it of all such rows, --split-map val=test of one word"
        raise RejectedRow(name, "unknown-split", f"its split is {stated!r:.60}: {hint}")


def is_split_name(folder: str) -> bool:
    """Whether a folder's name is a word for a split."""
    return folder.casefold() in _TRAIN | _TEST | _OTHERS


def split_rule(given: str | None, mapped: list[str] | None) -> SplitRule:
    """The rule of the options `--split` and `--split-map`.

    Raises:
        ConfigError: One of them names no split.
    """
    by_name: dict[str, Split] = {}
    for pair in mapped or []:
        word, equals, split = pair.partition("=")
        if not equals or not word.strip():
            raise ConfigError(f"{pair!r} is no mapping", item="--split-map", hint="As in --split-map val=test.")
        by_name[word.strip().casefold()] = _split(split, "--split-map")
    return SplitRule(None if given is None else _split(given, "--split"), by_name)


def _split(text: str, option: str) -> Split:
    word = text.strip().casefold()
    if word not in list(Split):
        raise ConfigError(f"there is no split {text!r}", item=option, hint=f"It is {' or '.join(Split)}.")
    return Split(word)
