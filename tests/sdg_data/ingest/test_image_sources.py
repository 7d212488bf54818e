"""Folders and shards as people really have them: every file and member is taken, used, or left out by name."""

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from schemas.records import Prompt, Split
from sdg_data import cli
from sdg_data.blobs import Blobs
from sdg_data.errors import InputError
from sdg_data.ids import content_id
from sdg_data.ingest import image_shards, source_image
from sdg_data.ingest.images import ImageImportOptions, import_images
from sdg_data.ingest.report import ImportReport
from sdg_data.progress import Progress
from sdg_data.store import images, prompts
from sdg_data.store.connection import Store

Members = Sequence[tuple[str, bytes | str]]


def picture(colour: int, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (colour, 0, 0)).save(buffer, kind, **options)
    return buffer.getvalue()


def write(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def pack(path: Path, members: Members, *, mode: str = "w", kind: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, mode, format=kind) as archive:  # type: ignore[call-overload]
        for name, content in members:
            data = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


class Imported:
    """What an import of a source gave; the totals are checked when it is made."""

    def __init__(self, store: Store, blobs: Blobs, source: Path | str, column: str | None = None) -> None:
        report = ImportReport(str(source), unit="images")
        options = ImageImportOptions(test_share=0.5, column=column)
        self.error = ""
        try:
            import_images(
                store, blobs, str(source), options, progress=Progress("x", stream=io.StringIO()), report=report
            )
        except InputError as error:
            self.error = str(error)
        report.check()
        self.tally = report.tally()
        self.refused = {(Path(r.name).name.rpartition("#")[2], r.line): r.code for r in report.refusals()}
        self.why = " ".join(r.message for r in report.refusals())
        self.files = self.tally.seen + self.tally.used
        self.prompts: dict[str, bytes] = {}
        if store.path.exists():
            with store.read() as tx:
                records = images.page(tx)
                texts = prompts.by_ids(tx, [record.prompt_id for record in records])
            self.prompts = {texts[record.prompt_id].text: blobs.get(record.blob) for record in records}


Import = Callable[..., Imported]


@pytest.fixture
def imported(store: Store, blobs: Blobs) -> Import:
    return lambda source, **options: Imported(store, blobs, source, **options)


# --- shards


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./", "run.v2/", "./a.b/c.d/"])
def test_dotted_keys_stay_apart(tmp_path: Path, imported: Import, kind: int, prefix: str) -> None:
    names = ["cfg7.5_0001", "cfg7.5_0002", "plain_0003", "v1.2.3", "v1.2.4"]
    members: list[tuple[str, bytes | str]] = []
    for number, name in enumerate(names):
        members += [(f"{prefix}{name}.png", picture(number)), (f"{prefix}{name}.txt", name)]
    result = imported(pack(tmp_path / "s.tar", members, kind=kind))
    assert result.prompts == {name: picture(number) for number, name in enumerate(names)}
    assert (result.tally.refused, result.files) == (0, 10)


def test_a_further_picture_of_a_sample_is_named_and_the_sample_taken(tmp_path: Path, imported: Import) -> None:
    members = [("1.png", picture(1)), ("1.seg.png", picture(2)), ("1.txt", "a cat"), ("1.cls", "3")]
    result = imported(pack(tmp_path / "s.tar", members))
    assert result.prompts == {"a cat": picture(1)}
    assert result.refused == {("1.seg.png", None): "not-an-image", ("1.cls", None): "not-an-image"}
    assert result.files == 4


def test_a_key_that_can_be_read_in_two_ways_is_left_out(tmp_path: Path, imported: Import) -> None:
    members = [("1.v1.png", picture(1)), ("1.v2.png", picture(2)), ("1.txt", "a cat"), ("2.png", picture(3))]
    result = imported(pack(tmp_path / "s.tar", [*members, ("2.txt", "a dog")]))
    assert result.prompts == {"a dog": picture(3)}
    assert result.refused == {
        ("1.v1.png", None): "ambiguous-key",
        ("1.v2.png", None): "ambiguous-key",
        ("1.txt", None): "not-an-image",
    }


def test_suffixes_may_be_written_large(tmp_path: Path, imported: Import) -> None:
    members = [("1.PNG", picture(1)), ("1.TXT", "a"), ("2.Jpeg", picture(2, "JPEG")), ("2.Json", '{"text": "b"}')]
    assert set(imported(pack(tmp_path / "s.TAR", members)).prompts) == {"a", "b"}


def test_members_that_do_not_stand_together_are_named_with_the_cure(tmp_path: Path, imported: Import) -> None:
    members: Members = [
        ("0.png", picture(0)),
        ("0.txt", "zero"),
        ("1.png", picture(1)),
        ("2.png", picture(2)),
        ("2.txt", "two"),
        ("1.txt", "one"),
        ("3.txt", "no picture"),
    ]
    result = imported(pack(tmp_path / "s.tar", members))
    assert set(result.prompts) == {"zero", "two"}
    assert result.refused == {("1.png", None): "not-adjacent", ("3.txt", None): "not-an-image"}
    assert "tar --sort=name" in result.why
    assert result.files == 7


def test_a_shard_without_one_sample_in_order_says_so(tmp_path: Path, imported: Import) -> None:
    members = [(f"{n}.png", picture(n)) for n in range(3)] + [(f"{n}.txt", str(n)) for n in range(3)]  # type: ignore
    result = imported(pack(tmp_path / "s.tar", members))
    assert "none of the 3 images can be used (3 not-adjacent)" in result.error
    assert "tar --sort=name" in result.error


def test_a_key_that_comes_twice_whole_gives_both_pictures(tmp_path: Path, imported: Import) -> None:
    members: Members = [("0.png", picture(1)), ("0.txt", "first"), ("0.png", picture(2)), ("0.txt", "second")]
    assert imported(pack(tmp_path / "s.tar", members)).prompts == {"first": picture(1), "second": picture(2)}


def test_a_key_that_comes_twice_in_pieces_is_not_guessed_at(tmp_path: Path, imported: Import) -> None:
    members: Members = [("0.png", picture(1)), ("0.png", picture(2)), ("0.txt", "first"), ("0.txt", "second")]
    result = imported(pack(tmp_path / "s.tar", [*members, ("1.png", picture(3)), ("1.txt", "one")]))
    assert result.prompts == {"one": picture(3)}
    assert (result.tally.refused_by_code, result.files) == ({"key-twice": 2}, 6)


def test_what_an_operating_system_leaves_is_counted_and_nothing_else(tmp_path: Path, imported: Import) -> None:
    members: list[tuple[str, bytes | str]] = []
    for number in range(3):
        members += [(f"./._{number}.png", b"\0\5\x16\7" * 20), (f"./{number}.png", picture(number))]
        members += [(f"./._{number}.txt", b"\0\5\x16\7" * 20), (f"./{number}.txt", f"picture {number}")]
    members += [("__MACOSX/x.png", picture(9)), (".DS_Store", "x")]
    result = imported(pack(tmp_path / "s.tar", members))
    assert result.prompts == {f"picture {number}": picture(number) for number in range(3)}
    assert result.tally.refused_by_code == {"system-file": 8}
    assert result.files == len(members)


def test_links_and_devices_in_a_shard_are_named(tmp_path: Path, imported: Import) -> None:
    path = pack(tmp_path / "s.tar", [("0.png", picture(1)), ("0.txt", "a cat")])
    with tarfile.open(path, "a") as archive:
        for name, kind in [("1.png", tarfile.SYMTYPE), ("2.png", tarfile.LNKTYPE), ("3.png", tarfile.FIFOTYPE)]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "0.png"
            archive.addfile(info)
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    result = imported(path)
    assert set(result.prompts) == {"a cat"}
    assert result.tally.refused_by_code == {"not-a-regular-file": 3}


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s.tgz"])
def test_long_and_odd_names_are_read(tmp_path: Path, imported: Import, name: str) -> None:
    long, odd = "d/" * 60 + "x" * 200, "caf\u00e9 \udcff\x07"
    members: Members = [(f"{long}.png", picture(1)), (f"{long}.txt", "long"), (f"{odd}.png", picture(2))]
    mode = "w:gz" if name != "s.tar" else "w"
    result = imported(pack(tmp_path / name, members, mode=mode, kind=tarfile.GNU_FORMAT))
    assert set(result.prompts) == {"long"}
    assert result.refused == {("caf\u00e9 \\xff\\x07.png", None): "no-prompt"}


def test_a_member_that_is_too_large_is_not_read(
    tmp_path: Path, imported: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_shards, "MAX_IMAGE_BYTES", 1000)
    members: Members = [("0.png", picture(1)), ("0.txt", "a"), ("1.png", b"\0" * 5000), ("1.txt", "b")]
    members = [*members, ("2.png", picture(2)), ("2.txt", "c")]
    plain = imported(pack(tmp_path / "s.tar", members))
    assert set(plain.prompts) == {"a", "c"}
    assert plain.refused[("1.png", None)] == "too-large"
    packed = imported(pack(tmp_path / "s.tgz", members, mode="w:gz"))
    # Behind it nothing can be reached but by unpacking it.
    assert set(packed.prompts) == {"a", "c"}
    assert packed.tally.taken + packed.tally.already_there == 1
    assert packed.refused == {("1.png", None): "too-large", ("s.tgz", None): "damaged-shard"}


def test_a_header_that_states_gigabytes_is_not_read(tmp_path: Path, imported: Import) -> None:
    members: Members = [("0.png", picture(1)), ("0.txt", "a cat")]
    good = pack(tmp_path / "good.tar", members).read_bytes()[: 512 * 4]
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        header = tarfile.TarInfo("x")
        header.type, header.size = kind, 6_000_000_000
        data = good + header.tobuf(tarfile.GNU_FORMAT) + b"\0" * 2048
        for name, content in (("s.tar", data), ("s.tar.gz", gzip.compress(data))):
            (tmp_path / name).write_bytes(content)
            result = imported(tmp_path / name)
            assert set(result.prompts) == {"a cat"}
            assert result.refused == {(name, None): "damaged-shard"}
            assert "6,000,000" in result.why


@pytest.mark.parametrize(
    ("mode", "endings"), [("w:gz", ("", ".gz")), ("w:bz2", ("", ".bz2", ".BZ2")), ("w:xz", ("", ".xz"))]
)
def test_a_packed_shard_is_read_under_a_plain_name_and_its_own(
    tmp_path: Path, imported: Import, mode: str, endings: Sequence[str]
) -> None:
    for ending in endings:
        path = pack(tmp_path / f"part[1].tar{ending}", [("0.png", picture(1)), ("0.txt", "a cat")], mode=mode)
        assert set(imported(path).prompts) == {"a cat"}


def test_a_packed_shard_that_is_cut_off_is_named(tmp_path: Path, imported: Import) -> None:
    for mode in ("bz2", "xz"):
        path = pack(tmp_path / f"s.tar.{mode}", samples(10), mode=f"w:{mode}")
        path.write_bytes(path.read_bytes()[:-20])
        assert imported(path).refused[path.name, None] == "damaged-shard"


def samples(number: int) -> list[tuple[str, bytes | str]]:
    return [item for n in range(number) for item in ((f"{n}.png", picture(n)), (f"{n}.txt", f"prompt {n}"))]


@pytest.mark.parametrize("damage", ["header", "cat", "cut", "gzip cut", "gzip flip"])
def test_damage_is_named_and_images_before_it_are_taken(tmp_path: Path, imported: Import, damage: str) -> None:
    packed = damage.startswith("gzip")
    path = pack(tmp_path / ("s.tar.gz" if packed else "s.tar"), samples(10), mode="w:gz" if packed else "w")
    data = bytearray(path.read_bytes())
    if damage == "header":
        data[512 * 4 * 5 + 150] ^= 0xFF  # the checksum of the sixth picture's header
    elif damage == "cat":
        data = data + data
    elif damage == "cut":
        del data[512 * 4 * 5 + 100 :]
    elif damage == "gzip cut":
        del data[-20:]
    else:
        raw = bytearray(gzip.decompress(bytes(data)))
        data = bytearray(gzip.compress(bytes(raw)))
        data[-6] ^= 0xFF  # the checksum of the whole
    path.write_bytes(bytes(data))
    result = imported(path)
    wanted = {"header": 5, "cat": 10, "cut": 5}.get(damage)
    assert set(result.prompts) == {f"prompt {n}" for n in range(len(result.prompts))}
    assert wanted is None or len(result.prompts) == wanted
    assert len(result.prompts) >= 5
    assert result.tally.refused_by_code["damaged-shard"] == 1


def test_a_damaged_shard_does_not_keep_the_next_one_out(tmp_path: Path, imported: Import) -> None:
    (tmp_path / "a.tar").write_bytes(b"no archive")
    pack(tmp_path / "b.tar", [("0.png", picture(0)), ("0.txt", "a cat")])
    result = imported(tmp_path / "*.tar")
    assert set(result.prompts) == {"a cat"}
    assert result.refused == {("a.tar", None): "damaged-shard"}


def test_a_missing_shard_is_an_error_before_anything_is_imported(tmp_path: Path, imported: Import) -> None:
    for number in (0, 1, 3):
        pack(tmp_path / f"p-{number:03}.tar", [("0.png", picture(number)), ("0.txt", str(number))])
    result = imported(tmp_path / "p-{000..003}.tar")
    assert "p-002.tar: there is no such shard" in result.error
    assert result.prompts == {}


# --- folders


def test_every_kind_of_file_in_a_folder_is_accounted_for(tmp_path: Path, imported: Import) -> None:
    others = {f"x.{kind}": b"x" for kind in ("tif", "bmp", "gif", "avif", "heic", "svg")}
    texts = {f"x{number}.txt": "x" for number in range(2)}
    folder = write(
        tmp_path / "art",
        {
            "1.png": picture(1),
            "1.txt": "a cat",
            "2.jpg": picture(2, "JPEG"),
            "2.json": '{"text": "", "prompt": "a dog", "n": NaN}',
            "scan.TIF": b"II*\0",
            "scan.txt": "a scan",
            "._1.png": b"x",
            "__MACOSX/1.png": b"x",
            ".DS_Store": b"x",
            "README.md": "x",
            **others,
            **texts,
        },
    )
    result = imported(folder)
    assert set(result.prompts) == {"a cat", "a dog"}
    assert result.tally.refused_by_code == {
        "unsupported-format": 7,
        "system-file": 3,
        "not-an-image": 3,
    }
    assert (result.files, result.tally.used) == (18, 3)


def test_only_regular_files_below_the_folder_are_opened(tmp_path: Path, imported: Import) -> None:
    secret = write(tmp_path / "private", {"s.png": picture(9)}) / "s.png"
    folder = write(tmp_path / "art", {"1.png": picture(1), "1.txt": "a cat", "deep/x.png": picture(2)})
    (folder / "out.png").symlink_to(secret)
    (folder / "out").symlink_to(secret.parent)
    (folder / "in.png").symlink_to(folder / "deep" / "x.png")
    (folder / "in.txt").write_text("a link within")
    (folder / "gone.png").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe.png")
    (folder / "null.png").symlink_to("/dev/zero")
    rows = [
        "../private/s.png",
        str(secret),
        "deep/../../private/s.png",
        "C:\\s.png",
        "a\0b",
        str(folder / "deep/x.png"),
    ]
    (folder / "metadata.jsonl").write_text(
        "".join(json.dumps({"file_name": name, "text": f"row {n}"}) + "\n" for n, name in enumerate(rows))
    )
    result = imported(folder)
    assert result.prompts == {"a cat": picture(1), "a link within": picture(2), "row 5": picture(2)}
    assert result.refused == {
        ("out.png", None): "outside-folder",
        ("out", None): "outside-folder",
        ("null.png", None): "outside-folder",
        ("gone.png", None): "not-a-regular-file",
        ("pipe.png", None): "not-a-regular-file",
        ("metadata.jsonl", 1): "outside-folder",
        ("metadata.jsonl", 2): "outside-folder",
        ("metadata.jsonl", 3): "outside-folder",
        ("metadata.jsonl", 4): "outside-folder",
        ("metadata.jsonl", 5): "no-file-name",
    }


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, imported: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdg_data.ingest.image_folders.MAX_IMAGE_BYTES", 1000)
    files = {"1.png": picture(1), "1.txt": "a", "2.png": b"x" * 1001, "2.txt": "b"}
    result = imported(write(tmp_path / "art", files))
    assert set(result.prompts) == {"a"}
    assert result.refused == {("2.png", None): "too-large"}
    assert source_image.MAX_IMAGE_BYTES == 1 << 28


def test_a_prompt_is_the_first_of_caption_prompt_and_text_that_is_not_empty(tmp_path: Path, imported: Import) -> None:
    rows = [
        {"file_name": "a.png", "text": "OCR: STOP", "prompt": "a street", "caption": None},
        {"file_name": "b.png", "prompt": "a kitchen", "text": "OCR: none"},
        {"file_name": "c.png", "caption": "  ", "prompt": "", "text": "a boat"},
        {"file_name": "d.png", "Text": "x", "CAPTION": "a barn"},
    ]
    files: dict[str, bytes | str] = {f"{name}.png": picture(n) for n, name in enumerate("abcd")}
    files["metadata.jsonl"] = "\n".join(map(json.dumps, rows))
    assert set(imported(write(tmp_path / "art", files)).prompts) == {"a street", "a kitchen", "a boat", "a barn"}


def test_metadata_in_folders_below_is_read(tmp_path: Path, imported: Import) -> None:
    files: dict[str, bytes | str] = {"top.png": picture(9), "metadata.csv": "file_name,text\ntop.png,the top\n"}
    for number, split in enumerate(("train", "test")):
        files |= {f"{split}/0.png": picture(number), f"{split}/deep/1.png": picture(10 + number)}
        rows = [{"file_name": "0.png", "text": f"{split} 0"}, {"file_name": "./deep/1.png", "text": f"{split} 1"}]
        files[f"{split}/metadata.jsonl"] = "\n".join(map(json.dumps, rows))
    result = imported(write(tmp_path / "art", files))
    assert result.prompts == {
        "the top": picture(9),
        "train 0": picture(0),
        "test 0": picture(1),
        "train 1": picture(10),
        "test 1": picture(11),
    }
    assert result.tally.refused == 0


def test_a_file_named_twice_is_taken_only_where_both_rows_agree(tmp_path: Path, imported: Import) -> None:
    rows = [("0.png", "zero"), ("1.png", "one"), ("./1.png", "another"), ("2.png", "two"), ("2.png", " two ")]
    files: dict[str, bytes | str] = {f"{n}.png": picture(n) for n in range(3)}
    files["metadata.jsonl"] = "\n".join(json.dumps({"file_name": name, "text": text}) for name, text in rows)
    result = imported(write(tmp_path / "art", files))
    assert set(result.prompts) == {"zero", "two"}
    assert result.refused == {("1.png", None): "named-twice"}
    assert "metadata.jsonl:2 and" in result.why
    assert "metadata.jsonl:3 give it different prompts" in result.why


def test_rows_that_cannot_be_read_are_named_by_their_line(tmp_path: Path, imported: Import) -> None:
    lines = [
        '\ufeff{"file_name": "0.png", "text": "zero", "score": NaN}',
        "",
        '{"file_name": "1.png", "text": "cut',
        '{"file_name": ["2.png"], "text": "two"}',
        '{"text": "nameless"}',
        '{"file_name": "3.png", "text": "three", "x": Infinity}',
        '"a string"',
        '{"file_name": "4.png", "text": ["no", "text"]}',
    ]
    files: dict[str, bytes | str] = {f"{n}.png": picture(n) for n in range(5)}
    files["metadata.jsonl"] = "\r\n".join(lines)
    result = imported(write(tmp_path / "art", files))
    assert set(result.prompts) == {"zero", "three"}
    assert result.refused == {
        ("metadata.jsonl", 3): "malformed",
        ("metadata.jsonl", 4): "no-file-name",
        ("metadata.jsonl", 5): "no-file-name",
        ("metadata.jsonl", 7): "no-file-name",
        ("1.png", None): "no-prompt",
        ("2.png", None): "no-prompt",
        ("4.png", None): "no-prompt",
    }


def test_a_text_that_serves_two_images_and_a_table_are_counted_once(tmp_path: Path, imported: Import) -> None:
    files = {"1.png": picture(1), "1.jpg": picture(2, "JPEG"), "1.txt": "a cat", "2.png": picture(3), "2.tif": b"x"}
    rows = '{"file_name": "2.png", "text": "two"}\n'
    result = imported(write(tmp_path / "art", {**files, "metadata.jsonl": rows, "sub/metadata.jsonl": ""}))
    assert (result.tally.seen, result.tally.used, result.tally.taken) == (4, 3, 3)


def test_pictures_inside_a_table_of_metadata_are_not_read(tmp_path: Path, imported: Import) -> None:
    folder = write(tmp_path / "art", {"0.png": picture(0)})
    frame = pl.DataFrame({"file_name": ["0.png"], "image": [b"x" * 100], "boxes": [[1, 2]], "text": ["zero"]})
    frame.write_parquet(folder / "metadata.parquet")
    assert set(imported(folder).prompts) == {"zero"}


@pytest.mark.parametrize("kind", ["csv", "semicolon", "parquet", "categorical"])
def test_metadata_may_be_any_table(tmp_path: Path, imported: Import, kind: str) -> None:
    folder = write(tmp_path / "art", {"0.png": picture(0), "1.png": picture(1)})
    frame = pl.DataFrame({"file_name": ["0.png", "1.png"], "text": ["zero; or, nought", "one"], "score": [1.0, None]})
    if kind in ("csv", "semicolon"):
        frame.write_csv(folder / "metadata.csv", separator="," if kind == "csv" else ";")
    else:
        wide = frame.with_columns(pl.col("text").cast(pl.Categorical)) if kind == "categorical" else frame
        wide.write_parquet(folder / "metadata.parquet")
    assert set(imported(folder).prompts) == {"zero; or, nought", "one"}


def test_metadata_of_a_wide_encoding_is_said(tmp_path: Path, imported: Import) -> None:
    text = '{"file_name": "0.png", "text": "zero"}\n'.encode("utf-16")
    assert "UTF-16" in imported(write(tmp_path / "art", {"0.png": picture(0), "metadata.jsonl": text})).error


def test_names_of_another_system_are_found(tmp_path: Path, imported: Import) -> None:
    files: dict[str, bytes | str] = {"sub/0.png": picture(0), "cafe\u0301.png": picture(1)}
    rows = [{"file_name": "sub\\0.png", "text": "zero"}, {"file_name": "caf\u00e9.png", "text": "one"}]
    files["metadata.jsonl"] = "\n".join(map(json.dumps, rows))
    assert set(imported(write(tmp_path / "art", files)).prompts) == {"zero", "one"}


def test_names_that_are_no_text_do_no_harm(tmp_path: Path, imported: Import) -> None:
    folder = write(tmp_path / "art", {"1.png": picture(1), "1.txt": "a cat"})
    strange = os.fsencode(folder) + b"/\xff\xfe.png"
    with open(strange, "wb") as file:  # noqa: PTH123  (a name of bytes)
        file.write(picture(2))
    result = imported(folder)
    assert result.refused == {("\\xff\\xfe.png", None): "no-prompt"}


def test_an_image_of_a_prompt_with_an_old_id_stays_with_it(tmp_path: Path, store: Store, imported: Import) -> None:
    text = "a red\u200b house"
    old = Prompt(id=content_id("prompt", text), text=text, source="x", licence=None, split=Split.TRAIN)
    with store.write() as tx:
        prompts.insert(tx, [old])
    imported(write(tmp_path / "art", {"1.png": picture(1), "1.txt": text, "2.png": picture(2), "2.txt": "a red house"}))
    with store.read() as tx:
        assert {record.prompt_id for record in images.page(tx)} == {old.id}
        assert prompts.count(tx) == 1


# --- the command


def test_the_command_ends_with_10_and_writes_every_refused_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "art", {"1.png": picture(1), "1.txt": "a cat", "2.png": picture(2), "x.tif": b"x"})
    line = ["--home", str(tmp_path / "home"), "images", "import", str(folder), "--report", str(tmp_path / "r.json")]
    assert cli.run(line) == 10
    assert "2 left out: 1 no-prompt, 1 unsupported-format." in capsys.readouterr().err
    [source] = json.loads((tmp_path / "r.json").read_text())["sources"]
    assert source["totals"]["images"]["seen"] == 3
    assert sorted(item["code"] for item in source["refused"]) == ["no-prompt", "unsupported-format"]
    (folder / "1.txt").unlink()
    assert cli.run([*line, "--json"]) == 4
    [source] = json.loads((tmp_path / "r.json").read_text())["sources"]
    assert source["totals"]["images"]["refused"] == 3
