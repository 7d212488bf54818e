"""What a picture is: the one place where stored bytes become the size and the pixels that a person sees.

A picture is 8-bit RGB in sRGB. What its file says beyond the bare samples is applied: the EXIF orientation, an ICC
profile or PNG's own colour chunks, 16 bits a channel, CMYK, transparency (over white), the first frame of several.
Width, height and boxes mean this picture everywhere, and the bytes are kept as they came.

- `read_header` says what the bytes are and how large the picture is, without decoding it.
- `measure` does so too, and decodes every pixel: a door takes nothing that it refuses.
- `decode_image` and `decode_pixels` give the picture, `for_browser` the bytes of a file that shows it.

The rules are those of Chromium, in which people annotate, with two exceptions that browsers do not agree on: the
orientation is also applied to WebP, and to a PNG that names it behind its samples. `PictureHeader.plain` says where no
rule is needed: any decoder and any browser then shows the same pixels.
"""

from sdg_data.picture.decode import decode_image, decode_pixels, for_browser, measure
from sdg_data.picture.formats import MOST_PIXELS, read_header
from sdg_data.picture.header import PictureHeader
from sdg_data.picture.refusal import DAMAGED, TOO_LARGE, UNSUPPORTED, PictureError

__all__ = [
    "DAMAGED",
    "MOST_PIXELS",
    "TOO_LARGE",
    "UNSUPPORTED",
    "PictureError",
    "PictureHeader",
    "decode_image",
    "decode_pixels",
    "for_browser",
    "measure",
    "read_header",
]
