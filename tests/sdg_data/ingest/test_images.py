"""Importing images: bytes as they were, prompts from where they are, failures by name."""

import io
import json
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from schemas.records import Failure, ImageRecord
from sdg_data.blobs import Blobs
from sdg_data.errors import InputError
from sdg_data.ids import blob_name, prompt_id, split_of
from sdg_data.ingest.image_files import expand_shards, open_images
from sdg_data.ingest.images import ImageImportCounts, ImageImportOptions, import_images
from sdg_data.ingest.import_unit import withdraw
from sdg_data.picture import measure
from sdg_data.progress import Progress
from sdg_data.store import failures, images, prompts
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest


def picture(colour: int, kind: str = "PNG", size: tuple[int, int] = (6, 4)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (colour, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


def write(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def shard(path: Path, members: Mapping[str, bytes | str]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def run(store: Store, blobs: Blobs, what: Path | str, **options: Any) -> ImageImportCounts:
    chosen = ImageImportOptions(**{"test_share": 0.5, **options})
    return import_images(store, blobs, str(what), chosen, progress=Progress("x", stream=io.StringIO()))


def stored(store: Store) -> dict[str, ImageRecord]:
    """The images by the text of their prompts."""
    with store.read() as tx:
        records = images.page(tx)
        texts = prompts.by_ids(tx, [record.prompt_id for record in records])
    return {texts[record.prompt_id].text: record for record in records}


def failed(store: Store) -> list[Failure]:
    with store.read() as tx:
        return failures.listed(tx)


def test_a_folder_with_text_files_beside_the_images(store: Store, blobs: Blobs, tmp_path: Path) -> None:
    one, two, three = picture(1), picture(2, "JPEG", (3, 5)), picture(3, "WEBP")
    folder = write(
        tmp_path / "art",
        {
            "1.png": one,
            "1.txt": "a  cat\n",
            "deep/er/2.JPG": two,
            "deep/er/2.txt": "\ufeffa dog",
            "3.webp": three,
            "3.txt": "a fox",
            "4.png": picture(4),
            "5.png": picture(5)[: len(picture(5)) // 2],
            "5.txt": "cut off",
            "6.png": b"no image at all",
            "6.txt": "nothing",
            "7.png": picture(7),
            "7.txt": b"\xff\xfe\xfa",
            "8.png": picture(8),
            "8.txt": "x" * 100_000,
            "notes.md": "not an image",
        },
    )
    counts = run(store, blobs, folder, model="dall-e", licence="CC-BY-4.0")
    assert (counts.read, counts.new, counts.already_there, counts.failed, counts.new_prompts) == (9, 3, 0, 6, 3)
    assert counts.failed_by_code["not-an-image"] == 1  # counted, but no failed work: it is not in the store
    records = stored(store)
    assert {text: blobs.get(record.blob) for text, record in records.items()} == {
        "a cat": one,
        "a dog": two,
        "a fox": three,
    }
    cat, dog = records["a cat"], records["a dog"]
    assert (cat.media_type, cat.width, cat.height, cat.bytes) == ("image/png", 6, 4, len(one))
    assert (dog.media_type, dog.width, dog.height) == ("image/jpeg", 3, 5)
    assert records["a fox"].media_type == "image/webp"
    assert {(r.model, r.licence, r.source, r.seed, r.seconds) for r in records.values()} == {
        ("dall-e", "CC-BY-4.0", "imported:art", None, None)
    }
    assert [(Path(failure.item_id).name, failure.code) for failure in failed(store)] == [
        ("4.png", "no-prompt"),
        ("5.png", "undecodable"),
        ("6.png", "undecodable"),
        ("7.png", "no-prompt"),
        ("8.png", "prompt-too-long"),
    ]
    assert len(list(blobs.iterate())) == 3
    with store.read() as tx:
        assert all(prompt.split is split_of(prompt.id, 0.5) for prompt in prompts.page(tx))


def test_importing_again_changes_nothing(store: Store, blobs: Blobs, tmp_path: Path) -> None:
    folder = write(tmp_path / "art", {"1.png": picture(1), "1.txt": "a cat", "2.png": b"broken", "2.txt": "a dog"})
    run(store, blobs, folder)
    before = store_digest(store, blobs)
    counts = run(store, blobs, folder)
    assert (counts.new, counts.already_there, counts.failed) == (0, 1, 1)
    assert store_digest(store, blobs) == before


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_folder_with_metadata_keeps_what_its_rows_say(store: Store, blobs: Blobs, tmp_path: Path, kind: str) -> None:
    rows = [
        {"file_name": "a.png", "prompt": "a cat", "model": "sdxl", "licence": "MIT"},
        {"file_name": "sub/b.png", "prompt": "a dog", "model": "", "licence": ""},
        {"file_name": "gone.png", "prompt": "a ghost", "model": "", "licence": ""},
    ]
    if kind == "jsonl":
        text = "\n".join(json.dumps(row) for row in rows)
    else:
        text = "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)])
    files = {
        "a.png": picture(1),
        "sub/b.png": picture(2),
        "c.png": picture(3),
        "c.txt": "a fox",
        f"metadata.{kind}": text,
    }
    counts = run(store, blobs, write(tmp_path / "set", files), model="other", licence="unknown", source="the archive")
    assert (counts.read, counts.new, counts.failed) == (4, 3, 1)
    assert counts.failed_by_code == {"missing-file": 1}
    records = stored(store)
    assert records["a fox"].bytes == len(picture(3))
    assert (records["a cat"].model, records["a cat"].licence) == ("sdxl", "MIT")
    assert (records["a dog"].model, records["a dog"].licence) == ("other", "unknown")
    assert {record.source for record in records.values()} == {"imported:the archive"}


def test_several_pictures_of_one_prompt_are_all_kept(store: Store, blobs: Blobs, tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {}
    for number in range(5):
        files |= {f"{number}.png": picture(number), f"{number}.txt": "a cat"}
    assert run(store, blobs, write(tmp_path / "cats", files)).new == 5
    with store.read() as tx:
        assert {record.blob for record in images.page(tx)} == {blob_name(picture(number)) for number in range(5)}


def test_pictures_whose_hashes_begin_alike_are_all_kept(
    store: Store, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A pair that shares 28 bits is too rare to find here: let all begin alike.
    monkeypatch.setattr("sdg_data.ingest.images.blob_name", lambda data: "0" * 7 + blob_name(data)[7:])
    first = write(
        tmp_path / "a" / "cats", {"1.png": picture(1), "1.txt": "a cat", "2.png": picture(2), "2.txt": "a cat"}
    )
    second = write(tmp_path / "b" / "cats", {"3.png": picture(3), "3.txt": "a cat"})
    assert run(store, blobs, first).new == 2
    assert run(store, blobs, second).new == 1
    assert run(store, blobs, first).already_there == 2
    with store.read() as tx:
        assert sorted(record.sample for record in images.page(tx)) == [0, 1, 2]


def test_shards_group_members_by_key(store: Store, blobs: Blobs, tmp_path: Path) -> None:
    shard(
        tmp_path / "part-000.tar",
        {
            "x/0001.png": picture(1),
            "x/0001.txt": "a cat",
            "x/0002.json": json.dumps({"caption": "a dog", "license": "MIT", "model": "flux"}),
            "x/0002.jpg": picture(2, "JPEG"),
            "x/0003.png": picture(3),
            "x/0004.txt": "no picture",
        },
    )
    shard(
        tmp_path / "part-001.tar",
        {"x/0001.webp": picture(4, "WEBP"), "x/0001.txt": "a fox", "y.png": picture(5), "y.json": "{"},
    )
    counts = run(store, blobs, str(tmp_path / "part-{000..001}.tar"), source="shards")
    assert (counts.read, counts.new, counts.failed_by_code) == (6, 3, {"no-prompt": 2, "not-an-image": 1})
    records = stored(store)
    assert set(records) == {"a cat", "a dog", "a fox"}
    assert (records["a dog"].licence, records["a dog"].model) == ("MIT", "flux")
    assert blobs.get(records["a fox"].blob) == picture(4, "WEBP")
    assert {failure.item_id for failure in failed(store)} == {
        f"{tmp_path}/part-000.tar#x/0003.png",
        f"{tmp_path}/part-001.tar#y.png",
    }


@pytest.mark.parametrize("cut", [300, 512 + 20], ids=["in a header", "in the data"])
def test_a_shard_that_is_cut_off_says_so_after_what_was_whole(
    store: Store, blobs: Blobs, tmp_path: Path, cut: int
) -> None:
    members: dict[str, bytes | str] = {}
    for number in range(100):
        members |= {f"{number:04}.png": picture(number), f"{number:04}.txt": f"prompt {number}"}
    path = shard(tmp_path / "part.tar", members)
    path.write_bytes(path.read_bytes()[: 512 * 2 * 2 * 70 + cut])
    counts = run(store, blobs, path)
    assert counts.new == 70  # all that are whole
    # Of the picture that is cut there is a header, or not.
    codes = {"damaged-shard": 1} if cut < 512 else {"damaged-shard": 1, "undecodable": 1}
    assert counts.failed_by_code == codes


def test_patterns_name_shards_in_order(tmp_path: Path) -> None:
    for name in ("p-08.tar", "p-09.tar", "p-10.tar", "q.tar"):
        (tmp_path / name).touch()
    names = [path.name for path in expand_shards(str(tmp_path / "p-{08..10}.tar"))]
    assert names == ["p-08.tar", "p-09.tar", "p-10.tar"]
    assert [path.name for path in expand_shards(str(tmp_path / "*.tar"))] == [*names, "q.tar"]
    assert expand_shards(str(tmp_path / "none.tar")) == []
    with pytest.raises(InputError, match=r"p-11\.tar: there is no such shard"):
        expand_shards(str(tmp_path / "p-{08..11}.tar"))
    with pytest.raises(InputError, match=r"p-00\.tar.*…") as raised:
        expand_shards(str(tmp_path / "p-{00..999999999999}.tar"))
    assert "p-04.tar, …" in str(raised.value)


class FakeDataset:
    """What `datasets.load_dataset(..., streaming=True)` gives for a set of images, as far as it is used."""

    def __init__(self, rows: list[dict[str, Any]], features: dict[str, object]) -> None:
        self.rows, self.features = rows, features
        self.decoded = True

    def cast_column(self, name: str, kind: "FakeImage") -> "FakeDataset":
        assert name == "image"
        self.decoded = kind.decode
        return self

    def __iter__(self) -> Iterator[dict[str, Any]]:
        assert not self.decoded
        return iter(self.rows)


class FakeImage:
    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


def test_a_hub_dataset_gives_its_bytes_as_they_are(
    store: Store, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk = write(tmp_path / "cache", {"x.png": picture(2)}) / "x.png"
    rows = [
        {"image": {"bytes": picture(1), "path": None}, "caption": "a cat", "model": "sd3"},
        {"image": {"bytes": None, "path": str(on_disk)}, "caption": "a dog", "model": None},
        {"image": None, "caption": "a fox", "model": None},
    ]
    dataset = FakeDataset(rows, {"image": FakeImage(), "caption": "string", "model": "string"})
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda *a, **k: dataset, Image=FakeImage))
    counts = run(store, blobs, "hf:owner/pictures")
    assert (counts.new, counts.failed_by_code) == (2, {"missing-file": 1})
    records = stored(store)
    assert blobs.get(records["a cat"].blob) == picture(1)
    assert blobs.get(records["a dog"].blob) == picture(2)
    assert records["a cat"].model == "sd3"
    assert {record.source for record in records.values()} == {"imported:hf:owner/pictures"}


def test_each_row_that_names_a_missing_file_is_counted(store: Store, blobs: Blobs, tmp_path: Path) -> None:
    rows = [{"file_name": name, "text": f"text {n}"} for n, name in enumerate(("a.png", "gone.png", "gone.png"))]
    files = {"a.png": picture(1), "metadata.jsonl": "\n".join(json.dumps(row) for row in rows)}
    counts = run(store, blobs, write(tmp_path / "set", files))
    assert (counts.read, counts.new, counts.failed_by_code) == (3, 1, {"missing-file": 2})
    again = run(store, blobs, tmp_path / "set")
    assert (again.read, again.already_there, again.failed_by_code) == (3, 1, {"missing-file": 2})


def test_a_dry_run_stores_nothing(store: Store, blobs: Blobs, tmp_path: Path) -> None:
    folder = write(tmp_path / "art", {"1.png": picture(1), "1.txt": "a cat", "2.png": b"broken", "2.txt": "b"})
    counts = run(store, blobs, folder, dry_run=True)
    assert (counts.read, counts.failed) == (2, 1)
    assert not store.home.exists()


def test_the_limit_counts_images(store: Store, blobs: Blobs, tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {}
    for number in range(4):
        files |= {f"{number}.png": picture(number), f"{number}.txt": f"prompt {number}"}
    assert run(store, blobs, write(tmp_path / "art", files), limit=3).read == 3
    assert set(stored(store)) == {"prompt 0", "prompt 1", "prompt 2"}


def test_sources_that_cannot_be_used_say_why(store: Store, blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "text", {"a.txt": "a", "a.zip": "PK", "a.tar.zst": "z"})
    write(tmp_path / "useless", {"a.png": b"broken", "a.txt": "a cat"})
    write(tmp_path / "bad", {"a.png": picture(1), "metadata.jsonl": "{"})
    write(tmp_path / "nameless", {"a.png": picture(1), "metadata.jsonl": '{"prompt": "a"}'})
    for source, said in [
        ("empty", "no images in the folder"),
        ("text", "no images in the folder"),
        ("text/a.txt", "Prompts go in by `sdg prompts import`"),
        ("text/a.zip", r"Taken are a folder and .tar, .tar.gz, .*; unpack another archive into a folder"),
        ("text/a.tar.zst", r"Taken are a folder and .tar, .tar.gz, .*, or make it a .tar"),
        ("none.tar", "no such folder or file"),
        ("useless", r"none of the 1 images can be used \(1 undecodable\)"),
        ("bad", r"\(1 no-prompt, 1 malformed\)"),
        ("nameless", r"\(1 no-prompt, 1 no-file-name\)"),
    ]:
        with pytest.raises(InputError, match=said):
            run(store, blobs, tmp_path / source)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_other_formats_are_refused_by_name(kind: str) -> None:
    with pytest.raises(ValueError, match=kind):
        measure(picture(1, kind))


def test_every_cut_of_an_image_is_found_out() -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        noisy = io.BytesIO()
        Image.effect_noise((32, 32), 80).convert("RGB").save(noisy, kind)
        data = noisy.getvalue()
        assert (measure(data).width, measure(data).height) == (32, 32)
        for end in (0, 1, 10, len(data) // 2, len(data) * 3 // 4):
            with pytest.raises(ValueError, match=r"damaged|not an image"):
                measure(data[:end])


def test_prompts_of_images_are_prompts_like_any_other(store: Store, blobs: Blobs, tmp_path: Path) -> None:
    run(store, blobs, write(tmp_path / "art", {"1.png": picture(1), "1.txt": "Cafe\u0301  au lait"}))
    with store.read() as tx:
        [prompt] = prompts.page(tx)
    assert (prompt.id, prompt.text) == (prompt_id("Café au lait"), "Café au lait")


def test_open_images_is_lazy(tmp_path: Path) -> None:
    folder = write(tmp_path / "art", {"1.png": picture(1), "1.txt": "a", "2.png": picture(2), "2.txt": "b"})
    sources = open_images(str(folder))
    assert next(sources).prompt == "a"
    (folder / "2.txt").write_text("changed")
    assert next(sources).prompt == "changed"


def test_an_import_of_images_can_be_withdrawn(tmp_path: Path) -> None:
    store, blobs = Store(tmp_path / "home"), Blobs(tmp_path / "home" / "blobs")
    with store.write():
        pass
    before = store_digest(store, blobs)
    folder = tmp_path / "in"
    folder.mkdir()
    for name, level in (("a", 0), ("b", 200)):
        Image.new("RGB", (32, 32), (level, 10, 20)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"picture {name}")
    (folder / "c.png").write_bytes(b"no picture")
    (folder / "c.txt").write_text("picture c")
    counts = import_images(store, blobs, str(folder), ImageImportOptions(test_share=0.5))
    assert (counts.new, counts.failed) == (2, 1)
    deleted, stays = withdraw(store, blobs, 1)
    assert (deleted["image"], deleted["prompt"], deleted["blob"], stays) == (2, 2, 2, {})
    assert store_digest(store, blobs) == before
