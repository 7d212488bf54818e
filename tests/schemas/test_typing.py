"""Mixing two conventions is a type error: mypy says so, on the lines marked and on no other."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SNIPPET = """\
from schemas.answer import parse_answer
from schemas.codecs import Coco, Gemini, LabelStudio, Qwen3VL, Qwen25VL
from schemas.geometry import Box, CocoBox, GeminiBox, ImageSize, PercentBox, PixelBox, Qwen3VLBox, Qwen25VLBox

size = ImageSize(width=64, height=64)
box = Box(x0=1, y0=2, x1=3, y1=4)
qwen = Qwen3VLBox(x0=1, y0=2, x1=3, y1=4)
pixels = Qwen25VLBox(x0=1, y0=2, x1=3, y1=4)
gemini = GeminiBox(y0=1, x0=2, y1=3, x1=4)
percent = PercentBox(x=1, y=2, width=3, height=4)
coco = CocoBox(x=1, y=2, width=3, height=4)

decoded: list[Box] = [
    Qwen3VL().decode(qwen),
    Qwen25VL(size).decode(pixels),
    Gemini().decode(gemini),
    LabelStudio().decode(percent),
    Coco(size).decode(coco),
    Box.from_pixels(PixelBox(x0=1, y0=2, x1=3, y1=4, width=64, height=64)),
]
shared: float = box.iou(decoded[0])

Qwen3VL().decode(gemini)  # wrong: arg-type
Qwen3VL().decode(percent)  # wrong: arg-type
Qwen3VL().decode(pixels)  # wrong: arg-type
Qwen3VL().decode(box)  # wrong: arg-type
Qwen3VL().decode([1, 2, 3, 4])  # wrong: arg-type
Qwen25VL(size).decode(qwen)  # wrong: arg-type
Gemini().decode(qwen)  # wrong: arg-type
LabelStudio().decode(coco)  # wrong: arg-type
Coco(size).decode(percent)  # wrong: arg-type
Box.from_pixels(pixels)  # wrong: arg-type
box.iou(gemini)  # wrong: arg-type
gemini.y0 = 5  # wrong: misc
Gemini().encode(box).iou(box)  # wrong: attr-defined
parse_answer("", codec=LabelStudio())  # wrong: arg-type
len(parse_answer("").defects)  # wrong: arg-type
"""


def test_mypy_tells_the_conventions_apart(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    path = tmp_path / "conventions_snippet.py"
    path.write_text(SNIPPET)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--no-error-summary",
            "--no-pretty",
            "--hide-error-context",
            str(path),
        ],
        cwd=ROOT,  # its settings and its cache
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = {
        (int(match.group(1)), match.group(2))
        for match in re.finditer(r"conventions_snippet\.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    }
    expected = {
        (number, line.split("# wrong: ")[1])
        for number, line in enumerate(SNIPPET.splitlines(), start=1)
        if "# wrong: " in line
    }
    assert found == expected, done.stdout + done.stderr


def test_importing_the_package_pulls_in_nothing_heavy() -> None:
    code = (
        "import sys, schemas.answer, schemas.records, schemas.codecs, schemas.axis_order, schemas.release;"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {
        "torch",
        "numpy",
        "polars",
        "pandas",
        "pyarrow",
        "duckdb",
        "json_repair",
        "transformers",
        "PIL",
        "typer",
        "rich",
    }
    assert heavy.isdisjoint(done.stdout.split())
