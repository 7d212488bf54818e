"""Decode images as a person sees them: `sdg_data.picture` says what that is.

PNG is decoded by pyspng where it is installed, which is 1.4 times as fast as Pillow.
"""

from sdg_data.picture import decode_image as open_image
from sdg_data.picture import decode_pixels as decode_rgb
from sdg_data.picture.decode import Pixels

__all__ = ["Pixels", "decode_rgb", "open_image"]
