"""Lists of images as text files, so that a choice made in one place is worked on in another.

One id a line. What follows a `#` is a comment, and empty lines say nothing. Notebooks, the dashboards and
`sdg eval compare` write such files; `sdg annotate push`, `sdg export run` and whoever else has `--images` read them.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sdg_data.errors import InputError
from sdg_data.ingest.text_lines import Line, read_lines
from sdg_data.store.connection import Tx

STDIN = Path("-")
_NAMED = 5
"""So many ids are named in an error."""


def write(path: Path, ids: Iterable[str], *, heading: str = "") -> int:
    """Write a list; the file is there whole or not at all.

    Args:
        path: The file; one that is there is replaced.
        ids: The images, each once, in the order in which they are written.
        heading: What the list is, written above it as a comment.

    Returns:
        How many ids were written. Errors are those of `write_bytes`.
    """
    chosen = list(dict.fromkeys(ids))
    write_bytes(path, text_of(chosen, heading=heading).encode())
    return len(chosen)


def write_bytes(path: Path, data: bytes) -> None:
    """Write the bytes of a list; the file is there whole or not at all.

    Raises:
        InputError: The file cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError as error:
        raise InputError(f"cannot write the list ({error.strerror or error})", item=str(path)) from error


def text_of(ids: Iterable[str], *, heading: str = "") -> str:
    """The text of a list: the heading as comments, then one id a line."""
    return "".join([*(f"# {line}\n" for line in heading.splitlines()), *(f"{image}\n" for image in ids)])


def read(path: Path) -> dict[str, int]:
    """Read a list; whether the images are known is asked by `check`.

    Args:
        path: The file; `-` is the standard input.

    Returns:
        Id -> the line on which it stands first, in the order of the file.

    Raises:
        InputError: The file cannot be read, is no text, or holds no id.
    """
    ids: dict[str, int] = {}
    for number, (_, image) in enumerate(lines_with_ids(path), start=1):
        if image:
            ids.setdefault(image, number)
    if not ids:
        raise InputError("the list names no image", item=str(path), hint="One id a line; # begins a comment.")
    return ids


def lines_with_ids(path: Path) -> Iterator[tuple[bytes, str]]:
    """The lines of a list as they stand there.

    Args:
        path: The file; `-` is the standard input.

    Yields:
        A line, and the id on it; "" where it names none.

    Raises:
        InputError: The file cannot be read, or is no text.
    """
    for line in _lines(path):
        try:
            text = line.data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"line {line.number} is no UTF-8 text", item=str(path)) from error
        yield line.data, text.partition("#")[0].strip()


def check(tx: Tx, ids: Sequence[str], *, lines: dict[str, int] | None = None, item: str = "--images") -> None:
    """Hold a list against the store.

    Args:
        tx: A transaction.
        ids: The images of the list.
        lines: On which line of the file each stands, where there is a file.
        item: The file, for the message.

    Raises:
        InputError: Some of the images are not in the store; the first of them are named.
    """
    rows = tx.execute(
        "SELECT id FROM (SELECT unnest(?::VARCHAR[]) AS id) ANTI JOIN images USING (id)", [list(ids)]
    ).fetchall()
    unknown = {image for (image,) in rows}
    if not unknown:
        return
    named = [image for image in ids if image in unknown][:_NAMED]
    words = ", ".join(f"{image[:80]} (line {lines[image]})" if lines else image[:80] for image in named)
    more = f" and {len(unknown) - len(named)} more" if len(unknown) > len(named) else ""
    raise InputError(
        f"{len(unknown)} of {len(ids)} images of the list are not in this store: {words}{more}",
        item=item,
        hint="A list names the images of one store by their whole ids; `sdg images list` shows them.",
    )


def read_known(tx: Tx, path: Path) -> tuple[str, ...]:
    """Read a list whose images must all be in the store; errors are those of `read` and `check`.

    Args:
        tx: A transaction.
        path: The file; `-` is the standard input.

    Returns:
        The ids, each once, in the order of the file.
    """
    lines = read(path)
    check(tx, tuple(lines), lines=lines, item=str(path))
    return tuple(lines)


def _lines(path: Path) -> Iterable[Line]:
    if path != STDIN:
        return read_lines(path)
    return [Line(number, data, False) for number, data in enumerate(sys.stdin.buffer, start=1)]
