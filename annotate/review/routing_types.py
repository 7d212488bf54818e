"""What routing hands to `sdg annotate push`: which image goes to people, and how.

`annotate.review.routing` decides by policy and yields these in the order in which people shall see them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas.base import Record
from schemas.records import ContentId


class RoutedImage(Record):
    """An image for people. `blind`: they see no prelabel. `priority`: higher comes first. `overlap`: how many people.

    An image is blind or it is not, for everybody and for good: nobody ever sees it both ways.
    """

    image_id: ContentId
    blind: bool = False
    priority: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    overlap: Annotated[int, Field(ge=1)] = 1
