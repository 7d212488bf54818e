"""Parts of files, copied only from the file that was looked at."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg_data import file_part
from sdg_data.blobs import Blobs
from sdg_data.errors import InputError
from sdg_data.file_part import FilePart, Stamp
from sdg_data.ids import blob_name


def part(path: Path, offset: int, size: int) -> FilePart:
    with path.open("rb") as file:
        return FilePart(path, offset, size, Stamp.read(file.fileno()))


@given(data=st.binary(min_size=1, max_size=60), bounds=st.tuples(st.integers(0, 59), st.integers(0, 59)))
def test_a_part_is_the_slice(data: bytes, bounds: tuple[int, int], tmp_path_factory: pytest.TempPathFactory) -> None:
    start, end = sorted(min(bound, len(data)) for bound in bounds)
    folder = tmp_path_factory.mktemp("part")
    (folder / "file").write_bytes(data)
    slice_ = part(folder / "file", start, end - start)
    with pytest.MonkeyPatch.context() as patch, (folder / "copy").open("wb") as sink:
        patch.setattr(file_part, "_BLOCK", 7)  # several blocks
        slice_.copy_to(sink.fileno())
    assert slice_.read() == data[start:end] == (folder / "copy").read_bytes()


def put_named(blobs: Blobs, items: dict[str, bytes | FilePart]) -> None:
    with blobs.putting_named(items) as wait:
        wait()


def test_a_file_that_was_changed_or_is_gone_gives_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    slice_ = part(path, 2, 3)
    with path.open("ab") as file:
        file.write(b"x")
    blobs = Blobs(tmp_path / "blobs")
    with pytest.raises(InputError, match="changed"):
        slice_.read()
    with pytest.raises(InputError, match="changed"):
        put_named(blobs, {blob_name(b"234"): slice_})
    (tmp_path / "other").write_bytes(b"0123456789")
    fresh = part(path, 2, 3)
    Path(tmp_path / "other").replace(path)  # another file under the name
    with pytest.raises(InputError, match="changed"):
        fresh.read()
    path.unlink()
    with pytest.raises(InputError, match="any more"):
        fresh.read()
    assert list(blobs.iterate()) == []
    assert list((tmp_path / "blobs" / ".tmp").iterdir()) == []


def test_named_parts_and_bytes_become_blobs(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    blobs = Blobs(tmp_path / "blobs")
    put_named(blobs, {blob_name(b"234"): part(tmp_path / "file", 2, 3), blob_name(b"whole"): b"whole"})
    assert sorted(blobs.get(name) for name in blobs.iterate()) == [b"234", b"whole"]
    Path(blobs.path(blob_name(b"234"))).write_bytes(b"dam")
    put_named(blobs, {blob_name(b"234"): part(tmp_path / "file", 2, 3)})
    assert blobs.get(blob_name(b"234")) == b"234"


def test_the_caller_works_while_parts_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    name, worked = blob_name(b"234"), threading.Event()
    real = os.preadv

    def after_the_work(file: int, buffers: list[memoryview], place: int) -> int:
        assert worked.wait(60)
        return real(file, buffers, place)

    monkeypatch.setattr(os, "preadv", after_the_work)
    blobs = Blobs(tmp_path / "blobs")
    with blobs.putting_named({name: part(tmp_path / "file", 2, 3)}) as wait:
        assert not blobs.exists(name)
        worked.set()
        wait()
        assert blobs.get(name) == b"234"
