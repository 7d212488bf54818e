"""Why bytes are no picture, with a code that a program can count."""

from typing import Final

UNSUPPORTED: Final = "unsupported-format"
"""Another format, or a kind of PNG, JPEG or WebP that nothing here decodes."""
TOO_LARGE: Final = "too-many-pixels"
"""More pixels than `MOST_PIXELS`, by its header; nothing was decoded."""
DAMAGED: Final = "undecodable"
"""No picture, or one that is damaged or cut off."""


class PictureError(ValueError):
    """Bytes that give no picture. `code` is one of `UNSUPPORTED`, `TOO_LARGE` and `DAMAGED`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
