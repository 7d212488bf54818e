"""What a file's header says of its picture."""

from dataclasses import dataclass

from sdg_data.picture.colour import Colour


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """A picture by its header.

    Attributes:
        media_type: `image/png`, `image/jpeg` or `image/webp`, by the bytes.
        stored_width: Width of the samples as they are stored.
        stored_height: Their height.
        orientation: EXIF's, 1 to 8; 1 where there is none that makes sense.
        frames: How many pictures the file holds; the first is the picture.
        colour: The colour space of the samples; None is sRGB, or CMYK without a profile.
        plain: Every decoder and every browser shows the same pixels without further rules.
    """

    media_type: str
    stored_width: int
    stored_height: int
    orientation: int
    frames: int
    colour: Colour | None
    plain: bool

    @property
    def width(self) -> int:
        """Width in pixels as a person sees the picture."""
        return self.stored_height if self.orientation >= 5 else self.stored_width

    @property
    def height(self) -> int:
        """Height in pixels as a person sees the picture."""
        return self.stored_width if self.orientation >= 5 else self.stored_height
