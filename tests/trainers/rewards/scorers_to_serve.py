"""Scorers for the tests of `sdg serve rewards`, one kind of trouble each; the prompt says which picture it befalls."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np


class Bright:
    """The mean brightness, and the trouble that a prompt asks for."""

    version = "bright 1"

    def __init__(self, options: dict[str, Any]) -> None:
        if options.get("broken"):
            raise ImportError("no module named hpsv9")
        self._times = options.get("times", 1)
        self._kept: list[bytes] = []
        self._no_more = options.get("dies_once")
        self._at_work = options.get("at_work")

    def __call__(self, images: list[Any], prompts: list[str]) -> list[Any]:
        print("libraries print what they like")
        if "die" in prompts:
            print("CUDA error: an illegal memory access", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if "hang" in prompts:
            if self._at_work:
                Path(self._at_work).write_text("computing", encoding="utf-8")
            threading.Event().wait()
        if "grow" in prompts:
            while True:
                self._kept.append(b"x" * 2**24)
        if "raise" in prompts:
            raise RuntimeError("out of memory")
        if "few" in prompts:
            return [1.0]
        table: dict[str, Any] = {"nan": float("nan"), "text": "I cannot see it"}
        table |= {"two": {"a": 1.0, "b": 2.0}, "half": {"a": 1.0, "b": None}}
        table |= {"digits": {"a": "1.5"}, "bytes": b"1.5", "truth": True, "array": images[0].max() > 0}
        table |= {"half a pair": "\ud83d cannot be written", "whole": np.float32(3)}
        pairs = zip(images, prompts, strict=True)
        return [table.get(prompt, float(image.mean()) * self._times) for image, prompt in pairs]
