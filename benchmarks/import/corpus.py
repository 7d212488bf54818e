"""What is imported: prompts, small images in a folder and a tar, our own shards of images of about 1 MB."""

import importlib.util
import io
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
from PIL import Image

PROMPTS = 1_000_000
IMAGES = 100_000
SAMPLES = 1_000
_WORDS = ("a", "red", "barn", "under", "snow", "two", "boats", "on", "the", "lake", "at", "night", "with", "people")


def write_corpus(what: str, folder: Path, scale: float) -> None:
    """Write the files of one contest into the new folder `folder`."""
    folder.mkdir()
    if what.startswith("prompts"):
        _prompts(folder / what, int(PROMPTS * scale))
    elif what.startswith("images"):
        _images(folder, int(IMAGES * scale), tar=what.endswith("tar"))
    else:
        _shards(folder, max(8, int(SAMPLES * scale)))


def _prompts(path: Path, number: int) -> None:
    rng = random.Random(1)
    texts = [f"{' '.join(rng.choices(_WORDS, k=rng.randint(6, 24)))}, number {index}" for index in range(number)]
    frame = pl.DataFrame({"id": range(number), "prompt": texts, "score": [rng.random() for _ in range(number)]})
    if path.suffix == ".csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)


def pictures(number: int) -> Iterator[bytes]:
    """PNGs of 64×64 with a gradient and some noise, about 5 kB, no two alike."""
    ramp = np.linspace(0, 200, 64, dtype=np.uint8)
    base = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.uint8(90)), axis=2).astype(np.uint8)
    for index in range(number):
        pixels = base.copy()
        pixels[::2] += np.random.default_rng(index).integers(0, 40, (32, 64, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        yield buffer.getvalue()


def _images(folder: Path, number: int, *, tar: bool) -> None:
    if not tar:
        for index, data in enumerate(pictures(number)):
            place = folder / "in" / f"{index // 1000:03d}"
            if index % 1000 == 0:
                place.mkdir(parents=True)
            (place / f"{index:06d}.png").write_bytes(data)
            (place / f"{index:06d}.txt").write_text(f"a small picture, number {index}")
        return
    with tarfile.open(folder / "images.tar", "w") as archive:
        for index, data in enumerate(pictures(number)):
            for suffix, content in ((".png", data), (".txt", f"a small picture, number {index}".encode())):
                info = tarfile.TarInfo(f"{index:06d}{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def _shards(folder: Path, number: int) -> None:
    from sdg_data.cli import run

    _export_corpus().build(folder / "home", number)
    command = [
        "export",
        "run",
        "--fill-prelabels",
        "vlm",
        "--no-phash",
        "--shard-mb",
        "100",
        "--output",
        str(folder / "shards"),
    ]
    if run(["--home", str(folder / "home"), *command]) != 0:
        raise SystemExit("the export that is to be imported failed")


def _export_corpus() -> ModuleType:
    """`benchmarks/export/corpus.py`, which makes a store of such samples."""
    path = Path(__file__).parents[1] / "export" / "corpus.py"
    spec = importlib.util.spec_from_file_location("export_corpus", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
