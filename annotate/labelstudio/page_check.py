"""Label Studio's own rules of a page, by label-studio-sdk's `LabelInterface`: the page, predictions, answers.

They are wider than ours (`convert.parse`): they know no box that reaches out of the image, and no missing reason. But
they are the ones that the page itself goes by, so a prediction that breaks them would not be shown as it was meant, and
an answer that breaks them was not made on this page.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sdg_data.errors import ConfigError


class PageCheck:
    """The rules of one page."""

    def __init__(self, xml: str) -> None:
        """Read the page.

        Raises:
            ConfigError: Label Studio would not take it.
        """
        from label_studio_sdk._legacy.exceptions import (
            LabelStudioValidationErrorSentryIgnored,
            LabelStudioXMLSyntaxErrorSentryIgnored,
        )
        from label_studio_sdk.label_interface.interface import LabelInterface

        make: Any = LabelInterface  # most of it has no types
        try:
            self._interface = make(xml)
            self._interface.validate()
        except (LabelStudioValidationErrorSentryIgnored, LabelStudioXMLSyntaxErrorSentryIgnored) as error:
            raise ConfigError(f"Label Studio does not take the labelling page: {str(error)[:500]}") from error

    def errors(self, result: Sequence[Any]) -> list[str]:
        """What is wrong with a prediction's or an answer's result; relations between boxes are not looked at."""
        items = [_listed(item) for item in result if not (isinstance(item, dict) and item.get("type") == "relation")]
        return [
            str(error)[:300] for error in self._interface.validate_prediction({"result": items}, return_errors=True)
        ]


def _listed(item: Any) -> Any:
    """An item whose text stands in a list, as the page writes it; other programs leave the list away."""
    value = item.get("value") if isinstance(item, dict) else None
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        return item
    return {**item, "value": {**value, "text": [value["text"]]}}


@cache
def page_check(xml: str) -> PageCheck:
    """The rules of a page, read once. Raises as `PageCheck` does."""
    return PageCheck(xml)
