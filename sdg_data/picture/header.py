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
        rules: Why decoders differ, where they do: "orientation", "colour" (a colour space other than sRGB, or CMYK),
            "depth" (16 bits a channel), "transparency", "frames" (an animation), "size" (one stated beside the true
            one, to which browsers stretch it), "coding" (one that few read).
    """

    media_type: str
    stored_width: int
    stored_height: int
    orientation: int
    frames: int
    colour: Colour | None
    rules: tuple[str, ...]

    @property
    def plain(self) -> bool:
        """Whether every decoder and every browser shows the same pixels without further rules."""
        return not self.rules

    @property
    def width(self) -> int:
        """Width in pixels as a person sees the picture."""
        return self.stored_height if self.orientation >= 5 else self.stored_width

    @property
    def height(self) -> int:
        """Height in pixels as a person sees the picture."""
        return self.stored_width if self.orientation >= 5 else self.stored_height


def rules_of(**apply: bool) -> tuple[str, ...]:
    """The names of those rules whose argument is true, in the order of the arguments."""
    return tuple(name for name, applies in apply.items() if applies)
