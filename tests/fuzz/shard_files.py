"""Our own shards, with fields altered, members moved, doubled and cut, with and without the manifest that tells."""

import io
import json
import shutil
import tarfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from tests.exports import worlds
from tests.fuzz.pictures import odd_picture
from tests.fuzz.running import sdg
from tests.fuzz.source import Fate, Item, Source

Member = tuple[tarfile.TarInfo, bytes]
COUNT = 12


@cache
def original(folder: Path) -> Path:
    """A home with images, defects and reviews, and its export `HOME/exports/sdg-webdataset`. Made once."""
    home = folder / "original"
    worlds.fill(home, COUNT)
    done = sdg(home, ["export", "run", "--unreviewed", "--fill-prelabels", "vlm", "--no-phash"])
    if done.code != 0:
        raise RuntimeError(done.raised or done.stderr)
    return home


def make(rng: Random, number: int, folder: Path) -> Source:
    """An altered copy of the export for `sdg import webdataset`."""
    made = original(folder.parent.parent) / "exports" / "sdg-webdataset"
    shutil.copytree(made, folder)
    source = Source(number, "shards", folder, ["import", "webdataset", str(folder)], named=False)
    tars = sorted(folder.glob("*.tar"))
    for path in tars:
        for _, data in _members(path):
            if data.startswith(b"{"):
                source.items.append(_item(json.loads(data)))
    manifest = rng.random() < 0.35
    if not manifest:
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.suffix != ".tar":
                path.unlink()
    kind = rng.choice(("none", "fields", "fields", "fields", "fields", "fields", "repacked", "members", "bytes"))
    source.odd += [kind, "manifest" if manifest else "no manifest"]
    path = rng.choice(tars)
    if kind == "bytes":
        _flip(rng, source, path)
    elif kind != "none":
        members = _members(path)
        if kind == "fields":
            members = [_altered(rng, source, info, data) for info, data in members]
        elif kind == "members":
            _moved(rng, source, members)
        _repack(rng, source, path, members, prefix=rng.choice(("./", "a/b/", "")) if kind == "repacked" else "")
    if manifest and kind != "none":
        source.whole = True
        source.exits |= {4, 5, 7}
        source.weaken(Fate.MAY, "the manifest has another hash")
    if not manifest:
        source.arguments[2] = str(folder / "*.tar")  # a folder without a manifest is no export
    return source


def _item(row: dict[str, Any]) -> Item:
    boxes = [
        tuple(defect["box"].values()) if isinstance(defect["box"], dict) else tuple(defect["box"])
        for defect in row["defects"]
    ]
    return Item(row["prompt"], Fate.MUST, clean=not boxes, boxes=len(boxes), blob=row["sha256"], split=row["split"])


def _members(path: Path) -> list[Member]:
    with tarfile.open(path) as archive:
        members = []
        for info in archive:
            content = archive.extractfile(info)
            members.append((tarfile.TarInfo(info.name), content.read() if content else b""))
    return members


def _repack(rng: Random, source: Source, path: Path, members: list[Member], prefix: str) -> None:
    with tarfile.open(
        path, "w", format=rng.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    ) as archive:
        for info, data in members:
            info.name = prefix + info.name
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def _flip(rng: Random, source: Source, path: Path) -> None:
    data = bytearray(path.read_bytes())
    source.altered, source.whole = True, True
    source.weaken(Fate.MAY, "bits flipped, or cut")
    if rng.random() < 0.4:
        path.write_bytes(data[: rng.randrange(len(data))])
        return
    for _ in range(rng.randint(1, 20)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))


def _moved(rng: Random, source: Source, members: list[Member]) -> None:
    kind = rng.choice(("shuffled", "dropped", "doubled", "swapped", "stranger"))
    source.weaken(Fate.MAY, kind)
    match kind:
        case "shuffled":
            rng.shuffle(members)
        case "dropped":
            del members[rng.randrange(len(members))]
        case "doubled":
            info, data = rng.choice(members)
            members.append((tarfile.TarInfo(info.name), data))
        case "swapped":
            one, other = rng.sample(range(len(members)), 2)
            members[one], members[other] = (members[one][0], members[other][1]), (members[other][0], members[one][1])
        case "stranger":
            members.append((tarfile.TarInfo(rng.choice(("x", "._y.png", "README.md", "a.b.c.d"))), b"?"))


def _altered(rng: Random, source: Source, info: tarfile.TarInfo, data: bytes) -> Member:
    """Change a field of the sample; what counts in gold must not be what nobody has said."""
    if rng.random() < 0.5:
        return info, data
    item = next((item for item in source.items if item.prompt.encode() in data), None)
    if not data.startswith(b"{"):
        if rng.random() < 0.15:
            picture = odd_picture(rng)
            source.weaken(Fate.MAY, "another picture")
            source.altered = True
            return info, picture.data
        return info, data
    row = json.loads(data)
    source.whole = True
    source.altered = True
    for entry in source.items:
        entry.fate = entry.fate.at_most(Fate.MAY)
    path, value = _field(rng, row)
    source.odd.append(f"{'.'.join(map(str, path))} = {str(value)[:30]!r}")
    if item is not None and path[0] in ("defects", "status"):
        # Without a manifest nobody can tell: the row itself then says so.
        item.boxes, item.clean = 99, item.clean or row.get("defects") == [] or row.get("status") == "clean"
    return info, json.dumps(row).encode("utf-8", "surrogatepass")


_VALUES = (
    None,
    "",
    0,
    -1,
    99,
    2**63,
    1.5,
    [],
    {},
    "x",
    "clean",
    "accepted",
    "rejected",
    "test",
    True,
    "\ud800",
    "0" * 32,
    "f" * 32,
    "f" * 64,
    [[]],
    "{}",
    "vlm",
)


def _field(rng: Random, row: Any) -> tuple[list[Any], Any]:
    """Replace a random field at a random depth."""
    path: list[Any] = []
    while True:
        keys = list(row) if isinstance(row, dict) else list(range(len(row)))
        key = rng.choice(keys)
        path.append(key)
        if isinstance(row[key], dict | list) and row[key] and rng.random() < 0.8:
            row = row[key]
            continue
        value = rng.choice(_VALUES)
        if rng.random() < 0.1:
            del row[key]
            return path, "deleted"
        row[key] = value
        return path, value
