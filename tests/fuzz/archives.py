"""Tar archives of images with their prompts: every dialect, odd keys and orders, doubles, links, junk, damage."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
from pathlib import Path
from random import Random

from tests.fuzz.pictures import Picture, odd_picture, plain_picture
from tests.fuzz.source import Fate, Item, Source, oddity, unique_prompt

_FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
Member = tuple[tarfile.TarInfo, bytes]


def make(rng: Random, number: int, folder: Path) -> Source:
    """An archive, or a pattern of several, for `sdg images import`."""
    folder.mkdir(parents=True)
    source = Source(number, "archive", folder)
    shards = rng.choice((1, 1, 1, 1, 1, 1, 2, 3))
    members = [_samples(rng, source, shard) for shard in range(shards)]
    for those in members:
        _disturb(rng, source, those)
    if not source.cut:  # what stands behind damage cannot be counted
        source.entries = sum(not info.isdir() for those in members for info, _ in those)
    ending = rng.choice((".tar",) * 6 + (".tar.gz", ".tgz"))
    for shard, those in enumerate(members):
        data = _damaged(rng, source, _packed(rng, source, those), shard)
        (folder / f"part-{shard:03d}{ending}").write_bytes(_compressed(rng, source, data, ending))
    pattern = f"part-000{ending}"
    if shards > 1:
        pattern = rng.choice((f"part-{{000..{shards - 1:03d}}}{ending}", f"part-*{ending}", f"part-0*{ending}"))
        if rng.random() < 0.1:
            (folder / f"part-001{ending}").unlink()
            source.entries = None
            source.whole = True
            source.weaken(Fate.MAY, "a shard is missing")
            source.items = [item for item in source.items if int(item.prompt.rpartition("x")[2]) // 100 != 1]
            source.exits |= {4, 10}
    source.arguments = ["images", "import", str(folder / pattern)]
    return source


def _samples(rng: Random, source: Source, shard: int) -> list[Member]:
    style = rng.choice(
        ("plain", "plain", "dotted", "folder", "dotted folder", "long", "unicode", "bytes", "./", "upper", "space")
    )
    if style not in ("plain", "folder"):
        source.odd.append(f"{style} keys")
    members: list[Member] = []
    for index in range(rng.randint(1, 4)):
        prompt = unique_prompt(rng, source.number, shard * 100 + index)
        picture = odd_picture(rng) if rng.random() < 0.2 else plain_picture(rng)
        if picture.odd:
            source.odd.append(picture.odd)
        suffix = picture.suffix if picture.fate is not Fate.NEVER else rng.choice((".png", ".jpg", ".webp"))
        texts, fate = _texts(rng, source, prompt)
        known = suffix in (".png", ".jpg", ".jpeg", ".webp")
        item = Item(prompt, picture.fate.at_most(fate), blob=picture.blob, size=picture.size)
        if not known:
            item.fate = item.fate.at_most(Fate.MAY)
        key = _key(style, shard * 100 + index)
        upper = style == "upper"
        source.items.append(item)
        members += [(_info(key + (suffix.upper() if upper else suffix)), picture.data)]
        members += [(_info(key + (ending.upper() if upper else ending)), text) for ending, text in texts]
    return members


def _key(style: str, index: int) -> str:
    return {
        "plain": f"{index:06d}",
        "dotted": f"cfg7.5_{index:04d}",
        "folder": f"a/b{index % 2}/{index:04d}",
        "dotted folder": f"./run.v2/{index:04d}",
        "long": f"{'l' * 90}/{'n' * 120}{index:04d}",
        "unicode": f"bïld-画{index}",
        "bytes": f"latin-\udce9{index}",
        "./": f"./{index:04d}",
        "upper": f"IMG_{index:04d}",
        "space": f" a key {index} ",
    }[style]


def _texts(rng: Random, source: Source, prompt: str) -> tuple[list[tuple[str, bytes]], Fate]:
    kind = rng.choice(("txt", "txt", "json", "both"))
    if rng.random() < 0.12:
        kind = rng.choice(("bom", "utf-16", "none", "empty", "nan", "broken", "list"))
    if kind not in ("txt", "json", "both"):
        source.odd.append(f"text: {kind}")
    row = json.dumps({"caption": None, "text": "other", "prompt": prompt} if kind == "json" else {"caption": prompt})
    if kind == "json":
        row = json.dumps({rng.choice(("caption", "prompt", "text")): prompt, "seed": 1})
    return {
        "txt": ([(".txt", prompt.encode())], Fate.MUST),
        "json": ([(".json", row.encode())], Fate.MUST),
        "both": ([(".txt", prompt.encode()), (".json", row.encode())], Fate.MUST),
        "bom": ([(".txt", b"\xef\xbb\xbf" + prompt.encode())], Fate.MUST),
        "utf-16": ([(".txt", prompt.encode("utf-16"))], Fate.MAY),
        "none": ([], Fate.NEVER),
        "empty": ([(".txt", b" \n")], Fate.NEVER),
        "nan": ([(".json", json.dumps({"caption": prompt, "score": float("nan")}).encode())], Fate.MAY),
        "broken": ([(".json", row.encode()[:-3])], Fate.NEVER),
        "list": ([(".json", json.dumps([prompt]).encode())], Fate.NEVER),
    }[kind]


def _info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def _disturb(rng: Random, source: Source, members: list[Member]) -> None:
    """Change the order, and add what belongs to no sample."""
    order = rng.random()
    if order < 0.1:
        rng.shuffle(members)
        source.weaken(Fate.MAY, "shuffled")
    elif order < 0.15:
        members.sort(key=lambda member: member[0].name.rpartition(".")[2])
        source.weaken(Fate.MAY, "sorted by suffix")
    elif order < 0.2:
        members.reverse()
    if rng.random() < 0.08:
        info, data = rng.choice(members)
        members.insert(rng.randrange(len(members)), (_info(info.name), data))
        source.weaken(Fate.MAY, f"{info.name} twice")
    for _ in range(rng.choice((0, 0, 0, 0, 1, 2))):
        info, data = _stranger(rng, members)
        source.odd.append(f"member {info.name[:40]!r} of type {info.type!r}")
        if info.type == tarfile.AREGTYPE and info.name.endswith("/") and data:
            # The oldest format's folder, which has no data: what follows its header is damage, and that is said.
            source.whole, source.cut = True, True
            source.weaken(Fate.MAY, "a folder with data")
        if rng.random() < 0.7:
            members.append((info, data))
        else:
            # Between the members of a sample it may part them.
            members.insert(rng.randrange(len(members) + 1), (info, data))
            source.weaken(Fate.MAY, "in the middle")


def _stranger(rng: Random, members: list[Member]) -> Member:
    first = members[0][0].name
    name = rng.choice(
        (
            "._0.png",
            "__MACOSX/._0.png",
            ".DS_Store",
            "Thumbs.db",
            "README.md",
            "list.csv",
            "a.cls",
            "x",
            ".",
            "dir/",
            "/etc/passwd",
            "../../out.png",
            "a\nb.txt",
            "l" * 300,
            "..png",
            ".png",
            "scan.tif",
            "loop.gif",
            "pax\udcff.bin",
            first + ".bak",
            "__len__",
        )
    )
    kind = rng.choice(
        (tarfile.REGTYPE,) * 5
        + (
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.DIRTYPE,
            tarfile.FIFOTYPE,
            tarfile.CHRTYPE,
            tarfile.BLKTYPE,
            tarfile.AREGTYPE,
            tarfile.CONTTYPE,
            b"Z",
        )
    )
    link = rng.choice((first, "nowhere", "/etc/passwd", "../x")) if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    with_data = kind in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
    return _info(name, kind, link), rng.randbytes(rng.randint(0, 700)) if with_data else b""


def _packed(rng: Random, source: Source, members: list[Member]) -> bytes:
    dialect = rng.choice(_FORMATS)
    buffer = io.BytesIO()
    try:
        _write(buffer, members, dialect)
    except ValueError:  # a name that ustar cannot hold
        buffer = io.BytesIO()
        _write(buffer, members, tarfile.GNU_FORMAT)
    return buffer.getvalue()


def _write(buffer: io.BytesIO, members: list[Member], dialect: int) -> None:
    with tarfile.open(fileobj=buffer, mode="w", format=dialect) as archive:
        for info, data in members:
            info.size = len(data)
            if dialect == tarfile.PAX_FORMAT and len(data) % 3 == 0:
                info.pax_headers = {"comment": "made elsewhere", "mtime": "1.5"}
            archive.addfile(info, io.BytesIO(data))


def _damaged(rng: Random, source: Source, data: bytes, shard: int) -> bytes:
    kind = oddity(rng, 0.15, ("cut", "cut", "no end", "tail", "joined", "header", "gap"))
    if not kind:
        return data
    if kind == "no end":  # the two empty blocks are not there: GNU tar says so and reads on
        source.odd.append(kind)
        return data.rstrip(b"\0") + b"\0" * (-len(data.rstrip(b"\0")) % 512)
    source.whole, source.entries = True, None
    if kind == "tail":
        source.weaken(Fate.MAY, "bytes after the end")
        return data + rng.randbytes(rng.randint(1, 3000))
    source.weaken(Fate.MAY, f"archive: {kind}")
    if kind == "cut":
        source.cut = True
        return data[: rng.randrange(1, max(2, len(data.rstrip(b"\0"))))]
    if kind == "joined":  # cat a.tar b.tar: what stands behind the first end is not lost in silence
        prompt = unique_prompt(rng, source.number, shard * 100 + 50 + rng.randrange(49))
        picture: Picture = plain_picture(rng)
        source.items.append(Item(prompt, Fate.MAY, blob=picture.blob, size=picture.size))
        second = [(_info("second/0" + picture.suffix), picture.data), (_info("second/0.txt"), prompt.encode())]
        return data + _packed(rng, source, second)
    source.altered = True
    if kind == "gap":
        at = rng.randrange(0, len(data), 512)
        return data[:at] + b"\0" * 512 * rng.randint(1, 3) + data[at:]
    at = rng.randrange(0, len(data), 512)
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        changed[min(len(data) - 1, at + rng.randrange(512))] = rng.randrange(256)
    return bytes(changed)


def _compressed(rng: Random, source: Source, data: bytes, ending: str) -> bytes:
    if ending == ".tar":
        kind = oddity(rng, 0.1, ("gz", "bz2", "xz"))
        if not kind:
            return data
        source.whole = True
        source.weaken(Fate.MAY, f"{kind} named .tar")
        return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind](data)
    packed = gzip.compress(data, 1)
    if rng.random() < 0.1:
        source.whole, source.cut, source.entries = True, True, None
        source.weaken(Fate.MAY, "cut gz")
        return packed[: rng.randrange(len(packed))]
    return packed
