"""Every file of an export × every way to spoil it, fields of its tables and of its manifest: verify says so.

The second half makes the manifest agree with what was changed, as somebody who means it would.
"""

import hashlib
import io
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exports.files.manifest import Manifest, read_manifest
from exports.files.target import Target
from exports.run import ExportResult
from exports.verify import verify
from sdg_data.blobs import Blobs
from sdg_data.errors import InputError, SdgError
from tests.exports.worlds import fill, picture, png

FORMATS = ("webdataset", "hf", "coco", "ms-swift")
Tampering = Callable[[Path], None]


@pytest.fixture(scope="module")
def exported(export: Callable[..., ExportResult], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small export in each of some formats: six images, several files of each kind."""
    home = tmp_path_factory.mktemp("small")
    world = fill(home, 6), Blobs(home / "blobs")
    folders = {}
    for name in FORMATS:
        folders[name] = tmp_path_factory.mktemp(name)
        export(folders[name], name, shard_bytes=20_000, world=world)
    return folders


def noticed(folder: Path) -> bool:
    try:
        return not verify(Target(folder)).sound
    except SdgError:
        return True


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[random.Random(path.name).randrange(len(data))] ^= 4
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def swap(path: Path) -> None:
    other = next(file for file in files(path) if file != path and file.read_bytes() != path.read_bytes())
    data = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(data)


def link(path: Path) -> None:
    moved = path.parent.parent / f"moved-{path.name}"
    path.rename(moved)
    path.symlink_to(moved)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def full_folder_instead(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.mkdir()
    (path / path.name).write_bytes(data)


def dead_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def device_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


WAYS: dict[str, Tampering] = {
    "flip": flip,
    "cut": cut,
    "empty": lambda path: path.write_bytes(b"") and None,
    "append": lambda path: path.write_bytes(path.read_bytes() + b"\0") and None,
    "delete": lambda path: path.unlink(),
    "rename": lambda path: path.rename(path.with_name(f"x{path.name}")) and None,
    "copy": lambda path: shutil.copy(path, path.with_name(f"x{path.name}")) and None,
    "swap": swap,
    "link": link,
    "dead link": dead_link,
    "link to a device": device_link,
    "fifo": fifo,
    "folder": folder_instead,
    "full folder": full_folder_instead,
}


def files(path: Path) -> list[Path]:
    """The files of the export that a path is in."""
    root = next(parent for parent in (path, *path.parents) if (parent / "README.md").exists())
    return sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["webdataset", pytest.param("coco", marks=pytest.mark.slow)])
def test_each_file_spoilt_in_each_way(exported: dict[str, Path], tmp_path: Path, name: str, way: str) -> None:
    """Over a hundred tamperings. Of the pictures, which are alike, the first two."""
    source = exported[name]
    names = [path.relative_to(source).as_posix() for path in files(source)]
    pictures = [path for path in names if path.startswith("images/")]
    for number, path in enumerate(sorted({*names} - {*pictures[2:]})):
        copy = Path(shutil.copytree(source, tmp_path / str(number) / "export"))
        WAYS[way](copy / path)
        assert noticed(copy), (way, path)


def test_what_is_added_beside_the_files(exported: dict[str, Path], tmp_path: Path) -> None:
    added: dict[str, Tampering] = {
        "file": lambda path: path.write_bytes(b"") and None,
        "hidden": lambda path: path.with_name(".x").write_bytes(b"x") and None,
        "temporary": lambda path: path.with_name(".tmp-0011223344556677").write_bytes(b"x") and None,
        "link": lambda path: path.symlink_to("README.md"),
        "link to a folder": lambda path: path.symlink_to("/"),
        "fifo": lambda path: os.mkfifo(path),
        "folder": lambda path: path.mkdir(),
    }
    for name, add in added.items():
        copy = Path(shutil.copytree(exported["webdataset"], tmp_path / name))
        add(copy / "added")
        assert noticed(copy), name


# --- the manifest


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))
    else:
        yield path, value


def changed(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return ("1" if value[:1] == "0" else "0") + value[1:]
        case None:
            return 0
    return ["x"] if isinstance(value, list) else {"x": 1}


def test_each_field_of_a_manifest(exported: dict[str, Path], tmp_path: Path) -> None:
    """Each value changed, and each left out: nobody reads it any more; verify does, and says so."""
    copy = Path(shutil.copytree(exported["webdataset"], tmp_path / "copy"))
    manifest = json.loads((copy / "manifest.json").read_text())
    paths = [path for path, _ in leaves(manifest) if path[0] != "files" or path[1] < 2]
    assert len(paths) > 50
    for path in paths:
        for leave_out in (False, True):
            spoilt = json.loads(json.dumps(manifest))
            place = spoilt
            for key in path[:-1]:
                place = place[key]
            if leave_out:
                del place[path[-1]]
            else:
                place[path[-1]] = changed(place[path[-1]])
            (copy / "manifest.json").write_bytes(orjson.dumps(spoilt, option=orjson.OPT_INDENT_2))
            with pytest.raises(InputError):
                read_manifest(Target(copy))
    assert noticed(copy)


def seal(folder: Path, change: Callable[[dict[str, Any]], None] = lambda fields: None) -> None:
    """Make the manifest agree with the files, after a change to it, and hash it anew; Croissant too."""
    fields = json.loads((folder / "manifest.json").read_text())
    for number in range(2):  # Croissant's own hash comes last
        for entry in fields["files"]:
            data = (folder / entry["path"]).read_bytes()
            entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if not number:
            stated = {entry["path"]: entry for entry in fields["files"]}
            croissant = json.loads((folder / "croissant.json").read_text())
            for item in croissant["distribution"]:
                if (entry := stated.get(item.get("contentUrl"))) is not None:
                    item |= {"contentSize": f"{entry['bytes']} B", "sha256": entry["sha256"]}
            (folder / "croissant.json").write_bytes(orjson.dumps(croissant))
    change(fields)
    (folder / "manifest.json").write_bytes(Manifest.model_validate(fields).text())


def test_a_seal_hides_nothing_by_itself(exported: dict[str, Path], tmp_path: Path) -> None:
    for name in FORMATS:
        copy = Path(shutil.copytree(exported[name], tmp_path / name))
        seal(copy)
        assert verify(Target(copy)).problems == []


@pytest.mark.slow
def test_fields_of_a_sealed_manifest(exported: dict[str, Path], tmp_path: Path) -> None:
    """What follows from the samples is held against them."""

    def set_(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
        def change(fields: dict[str, Any]) -> None:
            for key in path[:-1]:
                fields = fields[key]
            fields[path[-1]] = to

        return change

    changes = [
        set_("content", to="0" * 64),
        *(set_("counts", table, "x", to=1) for table in ("split", "model", "licence", "composition", "defects")),
        set_("counts", "label_source", to={}),
        set_("settings", "selection", "seed", to=1),
        set_("settings", to={}),
        set_("notes", "split_proof", "shared_prompts", to=1),
        set_("notes", "split_proof", to=[]),
        lambda fields: fields["files"].append(fields["files"][0]),
        lambda fields: fields["files"].pop(),
        *(lambda fields, n=n: fields["files"][n].update(sha256="0" * 64) for n in range(4)),
        *(lambda fields, n=n: fields["files"][n].update(bytes=7) for n in range(4)),
        lambda fields: next(e for e in fields["files"] if e["samples"]).update(samples=99),
        lambda fields: next(e for e in fields["files"] if e["split"] == "test").update(split="train"),
    ]
    copy = Path(shutil.copytree(exported["webdataset"], tmp_path / "copy"))
    for number, change in enumerate(changes):
        seal(copy, change)
        assert noticed(copy), number
        shutil.copy(exported["webdataset"] / "manifest.json", copy)


# --- inside files whose hashes were made to agree


def members(path: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(path) as archive:
        return [(info, archive.extractfile(info).read()) for info in archive]  # type: ignore[union-attr]


def pack(path: Path, content: list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.USTAR_FORMAT) -> None:
    with tarfile.open(path, "w", format=form) as archive:
        for info, data in content:
            if info.isreg():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def with_info(name: str, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def edited(data: bytes, **fields: Any) -> bytes:
    sample = json.loads(data)
    return orjson.dumps(sample | fields, option=orjson.OPT_SORT_KEYS)


MEMBER_CHANGES: dict[str, Callable[[list[tuple[tarfile.TarInfo, bytes]]], list[tuple[tarfile.TarInfo, bytes]]]] = {
    "another prompt": lambda m: [(m[0][0], edited(m[0][1], prompt="a dog")), *m[1:]],
    "no defects": lambda m: [(i, edited(d, defects=[]) if i.name.endswith("json") else d) for i, d in m],
    "another licence": lambda m: [(m[0][0], edited(m[0][1], licence="MIT")), *m[1:]],
    "another size": lambda m: [(m[0][0], edited(m[0][1], width=65)), *m[1:]],
    "another image": lambda m: [m[0], (m[1][0], png(picture(77).pixels)), *m[2:]],
    "bytes behind an image": lambda m: [m[0], (m[1][0], m[1][1] + b"\0"), *m[2:]],
    "no image": lambda m: [m[0], (m[1][0], b"<html>"), *m[2:]],
    "a sample twice": lambda m: [*m, *m[:2]],
    "a sample less": lambda m: m[2:],
    "a member less": lambda m: m[1:],
    "two samples swapped": lambda m: [*m[2:4], *m[:2], *m[4:]],
    "an extra file": lambda m: [*m, (with_info("README.md"), b"x")],
    "an extra file first": lambda m: [(with_info("._x"), b"x"), *m],
    "a folder": lambda m: [(with_info("x/", type=tarfile.DIRTYPE), b""), *m],
    "a link": lambda m: [*m, (with_info("x", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"")],
    "a FIFO": lambda m: [*m, (with_info("x", type=tarfile.FIFOTYPE), b"")],
    "a device": lambda m: [*m, (with_info("x", type=tarfile.CHRTYPE), b"")],
    "another mode": lambda m: [(with_info(m[0][0].name, mode=0o777), m[0][1]), *m[1:]],
    "another time": lambda m: [*m[:1], (with_info(m[1][0].name, mtime=9), m[1][1]), *m[2:]],
    "an owner": lambda m: [(with_info(m[0][0].name, uname="eve"), m[0][1]), *m[1:]],
    "folders in names": lambda m: [(with_info(f"./{i.name}"), d) for i, d in m],
    "another key": lambda m: [(with_info(i.name.replace(m[0][0].name[:8], "00000000")), d) for i, d in m],
    "spaces in the JSON": lambda m: [(m[0][0], m[0][1].replace(b'"seed":', b'"seed": ')), *m[1:]],
    "image first": lambda m: [m[1], m[0], *m[2:]],
}


@pytest.mark.slow
@pytest.mark.parametrize("change", MEMBER_CHANGES)
def test_members_of_a_sealed_shard(exported: dict[str, Path], tmp_path: Path, change: str) -> None:
    copy = Path(shutil.copytree(exported["webdataset"], tmp_path / "copy"))
    path = max(copy.glob("*.tar"), key=lambda path: len(members(path)))
    content = members(path)
    assert len(content) >= 4
    pack(path, MEMBER_CHANGES[change](content))
    seal(copy)
    assert noticed(copy)


@pytest.mark.parametrize("change", ["behind", "cut", "padding", "pax", "two ends"])
def test_bytes_of_a_sealed_shard(exported: dict[str, Path], tmp_path: Path, change: str) -> None:
    copy = Path(shutil.copytree(exported["webdataset"], tmp_path / "copy"))
    path = sorted(copy.glob("*.tar"))[0]
    data = path.read_bytes()
    if change == "behind":
        path.write_bytes(data + b"x" * 512)
    elif change == "cut":
        path.write_bytes(data[:-10_240])
    elif change == "two ends":
        path.write_bytes(data + bytes(10_240))
    elif change == "padding":
        place = 512 + members(path)[0][0].size
        assert data[place] == 0
        path.write_bytes(data[:place] + b"x" + data[place + 1 :])
    else:
        pack(path, [(with_info(i.name, pax_headers={"comment": "x"}), d) for i, d in members(path)], tarfile.PAX_FORMAT)
    seal(copy)
    assert noticed(copy)


@pytest.mark.slow
def test_each_column_of_a_sealed_index(exported: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(exported["webdataset"], tmp_path / "copy"))
    path = copy / "index.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()

    def write(content: list[dict[str, Any]]) -> bool:
        pq.write_table(pa.Table.from_pylist(content, schema=table.schema), path)
        seal(copy)
        return noticed(copy)

    assert not write(rows)
    for column in table.column_names:
        value = rows[1][column]
        other = changed(value) if column != "max_importance" or value is not None else 5
        assert write([rows[0], rows[1] | {column: other}, *rows[2:]]), column
    assert write(rows[1:])
    assert write([*rows, rows[0]])
    assert write([*rows[:-1], rows[0]])
    assert write([rows[1] | {"key": rows[0]["key"]}, rows[0] | {"key": rows[1]["key"]}, *rows[2:]])


def test_rows_of_a_sealed_parquet(exported: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(exported["hf"], tmp_path / "copy"))
    path = max(copy.glob("data/*.parquet"), key=lambda path: pq.read_metadata(path).num_rows)
    table = pq.read_table(path)
    rows = table.to_pylist()
    other = {"bytes": png(picture(77).pixels), "path": rows[0]["image"]["path"]}
    for content in (
        [rows[0] | {"prompt": "a dog"}, *rows[1:]],
        [rows[0] | {"width": 65}, *rows[1:]],
        [rows[0] | {"image": other}, *rows[1:]],
        [rows[0] | {"image": {"bytes": b"<html>", "path": "x.png"}}, *rows[1:]],
        [rows[0] | {"image": None}, *rows[1:]],
        [*rows[1:], rows[0]],
        [*rows, rows[0]],
        rows[1:],
    ):
        pq.write_table(pa.Table.from_pylist(content, schema=table.schema), path)
        seal(copy)
        assert noticed(copy)


def test_fields_of_a_sealed_coco_file(exported: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(exported["coco"], tmp_path / "copy"))
    path = max(copy.glob("mini-*.json"), key=lambda path: path.read_bytes().count(b'"bbox"'))
    original = json.loads(path.read_text())
    assert original["annotations"]
    assert len(original["images"]) > 1
    pictures = [image["file_name"] for image in original["images"]]

    def spoilt(*where: Any, to: Any) -> dict[str, Any]:
        data = json.loads(json.dumps(original))
        place = data
        for key in where[:-1]:
            place = place[key]
        place[where[-1]] = to
        return data

    for data in (
        spoilt("images", 0, "prompt", to="a dog"),
        spoilt("images", 0, "width", to=65),
        spoilt("images", 0, "file_name", to=pictures[1]),
        spoilt("images", 0, "file_name", to="/etc/passwd"),
        spoilt("images", 0, "sdg", to={}),
        spoilt("annotations", 0, "importance", to=15),
        spoilt("annotations", 0, "bbox", 0, to=original["annotations"][0]["bbox"][0] + 1),
        spoilt("annotations", 0, "category_id", to=3 - original["annotations"][0]["category_id"]),
        spoilt("annotations", to=original["annotations"][1:]),
        spoilt("images", to=original["images"][1:]),
        spoilt("images", to=[]),
    ):
        path.write_text(json.dumps(data))
        seal(copy)
        assert noticed(copy)
    path.write_text(json.dumps(original))
    (copy / pictures[0]).write_bytes((copy / pictures[1]).read_bytes())
    seal(copy)
    assert noticed(copy)
