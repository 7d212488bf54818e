"""What a reader of images hands on: an image with its prompt, or something that is left out, with the reason.

Also what folders and shards have in common: which names are pictures, which are rubbish of an operating system, how
much is read at the most, and where the prompt of an image stands.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Final

from sdg_data.ingest.captions import text_of
from sdg_data.json_values import parse_json

IMAGE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp"})
"""Names of pictures that are read; the bytes say what a picture really is."""
OTHER_PICTURES: Final = frozenset(
    (
        *(".apng", ".avif", ".bmp", ".dds", ".eps", ".exr", ".gif", ".hdr", ".heic", ".heif", ".icns", ".ico", ".j2k"),
        *(".jp2", ".jxl", ".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psd", ".qoi", ".svg", ".tga", ".tif", ".tiff"),
        *(".arw", ".cr2", ".dng", ".nef", ".raw", ".xcf"),
    )
)
TEXT_SUFFIXES: Final = frozenset({".txt", ".json"})
MAX_IMAGE_BYTES: Final = 1 << 28
MAX_TEXT_BYTES: Final = 1 << 24
_SYSTEM_FILES: Final = frozenset({".ds_store", "thumbs.db", "desktop.ini", ".localized"})
_SYSTEM_FOLDERS: Final = frozenset({"__macosx", ".git", ".spotlight-v100", ".trashes", ".fseventsd", "@eadir"})

NOT_IMAGES: Final = frozenset({"system-file", "not-an-image"})
"""Codes of what nobody takes for an image: counted and named, but no failed piece of work."""


@dataclass(frozen=True)
class SourceImage:
    """An image as the source has it: `name` says where, for people, and `line` in which row, where it is a row.

    `refusal` is a code with its message where the reader itself leaves it out, and `data` is None then. `facts` is the
    rest of the image's row, `used` how many files beside the image were read for it.
    """

    name: str
    data: bytes | None = None
    prompt: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    refusal: tuple[str, str] | None = None
    line: int | None = None
    used: int = 0


def printable(name: str) -> str:
    """A name for people and for the store: bytes that are no UTF-8, and control characters, as escapes."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() or c == " " else c.encode("unicode_escape").decode() for c in text)


def is_system_file(name: str) -> bool:
    """Whether an operating system or a tool left this file there: `._x`, `.DS_Store`, what is under `__MACOSX`."""
    *folders, last = PurePosixPath(name).parts or ("",)
    return (
        last.startswith("._")
        or last.lower() in _SYSTEM_FILES
        or any(part.lower() in _SYSTEM_FOLDERS for part in folders)
    )


def stray(name: str) -> tuple[str, str]:
    """Why a file that is neither an image nor belongs to one is left out, as (code, message)."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in OTHER_PICTURES:
        return "unsupported-format", f"{suffix} is not read; PNG, JPEG and WebP are"
    if suffix in TEXT_SUFFIXES:
        return "not-an-image", "a text without an image of its name"
    return "not-an-image", "neither an image nor its text"


def too_large(size: int, bound: int) -> tuple[str, str]:
    """The refusal of a file that is larger than what is read."""
    return "too-large", f"{size:,} bytes; {bound:,} are the most that are read"


def with_text(image: SourceImage, texts: Mapping[str, Callable[[], bytes]], column: str | None) -> SourceImage:
    """The image with the prompt of the files beside it.

    Args:
        found: The image, without a prompt yet.
        texts: What reads `.txt` and `.json`, where they are there.
        column: The key of the prompt in the `.json`; None for the `.txt`, else caption, prompt or text.
    """
    row: Any = {}
    if ".json" in texts:
        try:
            row = parse_json(texts[".json"]())
        except ValueError as error:
            return replace(image, data=None, refusal=("no-prompt", f"its .json is no JSON: {error}"))
    facts = row if isinstance(row, dict) else {}
    if ".txt" in texts and column is None:
        try:
            prompt = texts[".txt"]().decode("utf-8-sig")
        except UnicodeDecodeError:
            return replace(image, data=None, facts=facts, refusal=("no-prompt", "its text is not UTF-8"))
        if prompt.strip() or not facts:
            return replace(image, prompt=prompt, facts=facts)
    return described(image, facts, column)


def described(image: SourceImage, row: Mapping[str, Any], column: str | None) -> SourceImage:
    """Add the prompt of its row to an image.

    Args:
        found: The image.
        row: The row that describes it; empty where there is none.
        column: The prompt's column; None: the likeliest one.

    Returns:
        The image with prompt and row; refused and without its bytes where there is no prompt.
    """
    if not row:
        return replace(image, data=None, refusal=("no-prompt", "the image has no prompt"))
    text, code, message = text_of(row, column)
    if code is not None:
        return replace(image, data=None, facts=row, refusal=("no-prompt", f"its row has no prompt: {message}"))
    return replace(image, prompt=text, facts=row)
