"""The words under which people read what code, columns and JSON call by short names: in tables of pages and commands.

Names in JSON, CSV and options are an interface and stay as they are. Whoever shows a table to a person asks `heading`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_HEADINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "agreement": "agreement",
        "already_there": "already there",
        "answers": "answers",
        "artifact_F1_gold": "artifact BoxF1@0.5 against gold",
        "artifact_F1_others": "artifact BoxF1@0.5 against other people",
        "blob": "picture (sha256)",
        "clean_share": "share clean",
        "code": "reason",
        "created_at": "when (UTC)",
        "f1@0.1": "F1 at IoU 0.1",
        "f1@0.5": "F1 at IoU 0.5",
        "filepath": "image",
        "gt_all": "boxes, ground truth",
        "high": "95 %, high",
        "image_id": "image",
        "items": "items",
        "label_source": "whose label",
        "label_studio": "Label Studio",
        "low": "95 %, low",
        "median_seconds": "median seconds",
        "megabytes": "MB",
        "misalignment_F1_gold": "misalignment BoxF1@0.5 against gold",
        "misalignment_F1_others": "misalignment BoxF1@0.5 against other people",
        "mode": "way of working",
        "new_prompts": "new prompts",
        "parsing": "answer",
        "pred_all": "boxes, prediction",
        "reviewed_images": "reviewed images",
        "said": "whose label",
        "seconds_a_verdict": "seconds a verdict",
        "shared_images": "images judged by others too",
        "tokens_in": "tokens in",
        "tokens_out": "tokens out",
        "tp_all@0.5": "boxes matched at IoU 0.5",
        "who": "person",
    }
)
_VALUES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "shared_prompts": "prompts in both splits",
        "shared_images": "pictures in both splits",
        "train_prompts": "prompts of train",
        "test_prompts": "prompts of test",
        "train_images": "images of train",
        "test_images": "images of test",
        "gold": "gold",
        "people": "people, not reviewed yet",
        "detector": "detector",
        "no prelabel": "no prelabel was there",
    }
)


def heading(name: str) -> str:
    """What a column is called for people; underscores become spaces where the dictionary has no better word."""
    return _HEADINGS.get(name, name.replace("_", " "))


def value(name: str) -> str:
    """What a name that stands in a cell is called for people."""
    return _VALUES.get(name, name.replace("_", " "))


def decimal(figure: float | None, digits: int = 3) -> str:
    """A figure with so many digits behind the point; a dash where it is not known."""
    return "–" if figure is None else f"{figure:.{digits}f}"


def rounded(figure: float | None, digits: int = 3) -> float | str:
    """As `decimal`, but still a number where it is known: tables put those to the right."""
    return "–" if figure is None else round(figure, digits)


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 image", "1,200 images", "2 copies"."""
    if number == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else f"{noun}s"
    return f"{number:,} {plural}"
