"""Ids are content: what a record is made from names it, so the same work lands on the same row (DESIGN section 3).

An id is the first 32 hex digits (128 bits) of sha256 over the canonical JSON of `[domain, field, ...]`. JSON quotes its
strings, so no two lists of fields encode alike, and the domain tag keeps ids of different kinds apart.
"""

import hashlib
import json
import unicodedata
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from schemas.records import Split
from sdg_data.invisible import strip_invisible

ID_DIGITS = 32
HASH_LIMIT: Final = 4 * 2**30
"""The largest folder, in bytes, that `folder_hash` reads; the state of a larger one has to be named by its owner."""


# Made once: `json.dumps` makes an encoder for every call, which takes as long as a prompt's text itself.
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """Write a value as JSON in the one form that is hashed: sorted keys, no spaces, Unicode as it is.

    Raises:
        ValueError: The value holds NaN or an infinity.
    """
    return _CANONICAL.encode(value)


def content_id(domain: str, *fields: str | int) -> str:
    """The id of `fields` in `domain`: 32 lower-case hex digits."""
    return _digest(domain, *fields)[:ID_DIGITS]


def normalise_prompt(text: str) -> str:
    """`text` as a prompt is stored and compared: what looks alike is alike.

    Characters that nobody sees are stripped (`invisible`), the rest is in Unicode NFC, runs of white space are one
    space, none stands at either end. The case is kept.
    """
    return _normalise_before_invisible(strip_invisible(unicodedata.normalize("NFC", text)))


def prompt_id(text: str) -> str:
    """The id of a prompt: of its normalised text alone, whatever file it came from."""
    return content_id("prompt", normalise_prompt(text))


def is_prompt_id(identity: str, text: str) -> bool:
    """Whether `identity` is the id of the prompt `text`, by this rule or by the first one.

    The first rule did not strip invisible characters. Prompts that were stored by it keep their ids, because their
    images' ids are made from them; of texts without such characters both rules make the same id.
    """
    return identity in (prompt_id(text), content_id("prompt", _normalise_before_invisible(text)))


def _normalise_before_invisible(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def image_id(prompt_id: str, model: str, revision: str, sample: int, settings: str) -> str:
    """The id of an image. `settings` is canonical JSON of everything that shapes the pixels; `sample` counts from 0."""
    return content_id("image", prompt_id, model, revision, sample, settings)


@lru_cache(maxsize=1024)
def variant_id(model: str, revision: str, settings: str) -> str:
    """The id of (model, revision, settings), which many images share: a short key in the store."""
    return content_id("variant", model, revision, settings)


def seed_of(image_id: str) -> int:
    """The image's seed, 0 <= seed < 2**63: its own, so an image does not depend on its batch."""
    return int(_digest("seed", image_id)[:16], 16) >> 1


def split_of(prompt_id: str, test_share: float) -> Split:
    """The prompt's side of the cut: a pure function of its id, so it is never in two splits (SPEC section 2).

    Hashed apart from the id itself, so the first prompts in id order (a `--limit`) are not all test prompts.

    Args:
        prompt_id: The prompt's id.
        test_share: The share of all prompts that is in the test split, 0..1.

    Returns:
        The split.

    Raises:
        ValueError: The share is outside 0..1.
    """
    if not 0 <= test_share <= 1:
        raise ValueError(f"the test share is a fraction from 0 to 1, not {test_share}")
    fraction = int(_digest("split", prompt_id)[:13], 16) / 16**13
    return Split.TEST if fraction < test_share else Split.TRAIN


def blob_name(data: bytes) -> str:
    """The blob's name: sha256 of its bytes, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def folder_hash(folder: Path, *, leave_out: Collection[str] = ()) -> str:
    """The name of a state of a model's weights: a hash over the files of its folder.

    Args:
        folder: The folder, read to its leaves.
        leave_out: Names of files that may change without changing the weights, such as "README.md".

    Returns:
        40 hex digits of sha256 over each file's relative path and content, in the order of the paths.

    Raises:
        ValueError: The files hold more than `HASH_LIMIT` bytes, too much to be read whenever a command starts.
    """
    files = sorted(
        (path for path in folder.rglob("*") if path.is_file() and path.name not in leave_out),
        key=lambda path: path.relative_to(folder).as_posix(),
    )
    size = sum(path.stat().st_size for path in files)
    if size > HASH_LIMIT:
        raise ValueError(f"{folder} holds {size / 2**30:.0f} GiB, too much to hash at every start")
    digest = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\0".encode())
    return digest.hexdigest()[:40]


def _digest(domain: str, *fields: str | int) -> str:
    return hashlib.sha256(canonical_json([domain, *fields]).encode()).hexdigest()
