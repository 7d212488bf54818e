"""The process of one reward: reads pictures from its standard input, writes numbers to its standard output.

It is run as a file by whatever interpreter the reward needs, which may know nothing of this project: it imports the
standard library and numpy, and the scorer that it is told. A message is a line of JSON and the bytes that the line
announces:

    to it     {"images": [[HEIGHT, WIDTH], …], "prompts": [TEXT, …]}  and the pixels, uint8 RGB
    from it   {"ready": VERSION}, {"scores": [{METRIC: NUMBER or null} or TEXT, …]} or {"failed": TEXT}

A text in the place of a score is the reason why there is none. Whatever the scorer prints goes to standard error. The
process ends when its input does, also in the middle of a computation, so that it never outlives its server.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import queue
import sys
import threading
from typing import Any, BinaryIO


def main() -> None:
    """Load the scorer that the first argument describes, then answer until the input ends.

    Raises:
        SystemExit: the scorer does not load.
    """
    task = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    questions: queue.Queue[tuple[dict[str, Any], bytes]] = queue.Queue(1)
    threading.Thread(target=listen, args=(sys.stdin.buffer, questions), daemon=True).start()
    try:
        scorer = load(task["scorer"])(task["options"])
    except Exception as error:
        say(answers, {"failed": reason(error)})
        raise SystemExit(1) from error
    say(answers, {"ready": str(getattr(scorer, "version", ""))})
    while True:
        head, pixels = questions.get()
        try:
            answer: dict[str, Any] = {"scores": scored(scorer, pictures(head["images"], pixels), head["prompts"])}
        except Exception as error:  # noqa: BLE001  (a foreign scorer raises what it likes; it is told to the server)
            answer = {"failed": reason(error)}
        say(answers, answer)


def scored(scorer: Any, images: list[Any], prompts: list[str]) -> list[Any]:
    """A scorer's answers as JSON.

    Returns:
        One for each picture.

    Raises:
        RuntimeError: it gave fewer or more.
    """
    scores = [tidy(score) for score in scorer(images, prompts)]
    if len(scores) != len(images):
        raise RuntimeError(f"{len(scores)} scores for {len(images)} images")
    return scores


def listen(source: BinaryIO, questions: queue.Queue[tuple[dict[str, Any], bytes]]) -> None:
    """Read messages; end the process when there are no more."""
    while line := source.readline():
        head = json.loads(line)
        size = sum(3 * height * width for height, width in head["images"])
        data = source.read(size)
        if len(data) < size:
            break
        questions.put((head, data))
    os._exit(0)


def load(target: str) -> Any:
    """The function that `module:name` or `FILE.py:name` says.

    Returns:
        The function.

    Raises:
        ImportError: the file is none of Python.
    """
    module, _, name = target.rpartition(":")
    if module.endswith(".py"):
        spec = importlib.util.spec_from_file_location("scorer", module)
        if spec is None or spec.loader is None:
            raise ImportError(f"{module} is no file of Python")
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return getattr(loaded, name)
    return getattr(importlib.import_module(module), name)


def pictures(sizes: list[list[int]], data: bytes) -> list[Any]:
    """The pictures as arrays (height, width, 3) of uint8."""
    import numpy as np

    result, start = [], 0
    for height, width in sizes:
        length = 3 * height * width
        result.append(np.frombuffer(data, np.uint8, length, start).reshape(height, width, 3))
        start += length
    return result


def tidy(score: Any) -> Any:
    """A score as JSON: numbers by name, null for what is no finite one; a text stays."""
    if isinstance(score, str):
        return plain(score)
    table = score if isinstance(score, dict) else {"": score}
    return {plain(str(name)): number(value) for name, value in table.items()}


def plain(text: str) -> str:
    """A text that every client can read: halves of surrogate pairs, which no UTF-8 holds, become question marks."""
    return text.encode(errors="replace").decode()


def number(value: Any) -> float | None:
    """A finite number, or None; a text or a truth value in the place of one is none."""
    if isinstance(value, bool | str | bytes) or "bool" in str(getattr(value, "dtype", "")):
        return None
    try:
        value = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def reason(error: Exception) -> str:
    """An error in a line."""
    return plain(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def say(answers: BinaryIO, value: dict[str, Any]) -> None:
    """Write a message."""
    answers.write(json.dumps(value).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    main()
