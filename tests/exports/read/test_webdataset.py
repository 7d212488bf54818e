"""webdataset's pipeline beside our reader, sample by sample."""

import io
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from exports.read import ShardReader, webdataset_pipeline
from exports.read.reader import CorruptSample
from sdg_data.errors import InputError

webdataset = pytest.importorskip("webdataset")


def tars(shards: Path) -> list[Path]:
    return sorted(shards.rglob("*.tar"))


def keys(samples: Any) -> list[str]:
    return [sample["__key__"] for sample in samples]


@pytest.mark.parametrize("decode", ["bytes", "numpy", "pil"])
@pytest.mark.parametrize("split", [None, "test"])
def test_the_samples_are_the_readers(shards: Path, decode: Any, split: str | None) -> None:
    read = list(ShardReader(shards, split=split, decode=decode))
    examples = list(webdataset_pipeline(shards, split=split, decode=decode))
    assert isinstance(webdataset_pipeline(shards), webdataset.DataPipeline)
    assert keys(examples) == [example.key for example in read]
    for sample, example in zip(examples, read, strict=True):
        assert (sample["json"], sample["sample"]) == (example.text, example.sample)
        assert np.array_equal(np.asarray(sample["image"]), np.asarray(example.image))


def test_shards_are_dealt_to_nodes_and_workers(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = Counter(example.key for example in ShardReader(shards))
    monkeypatch.setenv("WORLD_SIZE", "2")
    epochs: list[list[str]] = [[], []]
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        made = DataLoader(
            webdataset_pipeline(shards, seed=1, shuffle=4), batch_size=None, num_workers=2, collate_fn=key_of
        )
        for epoch in epochs:
            epoch += list(made)
    assert [Counter(epoch) for epoch in epochs] == [everything, everything]
    assert epochs[0] != epochs[1]


def key_of(sample: Any) -> str:
    return str(sample["__key__"])


def test_resampling_has_no_end(shards: Path) -> None:
    pipeline = webdataset_pipeline(shards, seed=1, resampled=True).with_epoch(100)
    first, second = keys(pipeline), keys(pipeline)
    assert (len(first), len(second)) == (100, 100)
    assert set(first) <= {example.key for example in ShardReader(shards)}


def repacked(source: Path, target: Path, rename: Any, mode: Any = "w") -> Path:
    with tarfile.open(source) as old, tarfile.open(target, mode) as new:
        for member in old:
            data = old.extractfile(member)
            assert data is not None
            content = data.read()
            added = tarfile.TarInfo(rename(member.name))
            added.size = len(content)
            new.addfile(added, io.BytesIO(content))
    return target


@pytest.mark.parametrize("change", ["./{}", "train/set one/{}", "a.b.{}", "{}"])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_foreign_shards(shards: Path, tmp_path: Path, change: str, mode: str) -> None:
    plain = repacked(tars(shards)[0], tmp_path / "plain.tar", change.format)
    read = list(ShardReader(plain))
    name = "again.tar" if mode == "w" else "again.tar.gz"
    examples = list(webdataset_pipeline(str(repacked(plain, tmp_path / name, lambda name: name, mode))))
    assert [(row["__key__"], row["json"], row["image"]) for row in examples] == [
        (example.key, example.text, example.image) for example in read
    ]
    assert len(examples) == len(list(ShardReader(tars(shards)[0])))
    piped = list(webdataset_pipeline(f"pipe:cat {tmp_path / name}"))
    assert keys(piped) == keys(examples)


def test_other_peoples_samples(tmp_path: Path, shards: Path) -> None:
    with tarfile.open(tmp_path / "other.tar", "w") as file:
        for name, data in (("1.txt", b"a cat"), ("1.PNG", next(iter(ShardReader(shards))).image), ("2.txt", b"a dog")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    source = str(tmp_path / "other.tar")
    (cat,) = webdataset_pipeline([source], typed=False, decode="numpy", handler="skip")
    assert (cat["__key__"], cat["txt"], cat["sample"], cat["json"]) == ("1", b"a cat", None, None)
    assert cat["image"].ndim == 3
    with pytest.raises(CorruptSample, match="it has only"):
        list(webdataset_pipeline([source]))


def test_damage_goes_to_the_handler(tmp_path: Path, shards: Path) -> None:
    data = bytearray(tars(shards)[0].read_bytes())
    place = data.index(b'"agreement"')
    data[place : place + 11] = b'"agreemenT"'
    (tmp_path / "hurt.tar").write_bytes(data)
    source = str(tmp_path / "hurt.tar")
    with pytest.raises(CorruptSample, match="its JSON is no sample"):
        list(webdataset_pipeline(source))
    whole = [example.key for example in ShardReader(tars(shards)[0])]
    assert len(keys(webdataset_pipeline(source, handler="skip"))) == len(whole) - 1
    seen: list[str] = []
    assert (
        len(list(webdataset_pipeline(source, handler=lambda error: seen.append(str(error)) is None))) == len(whole) - 1
    )
    assert len(seen) == 1
    assert keys(webdataset_pipeline([*tars(shards)[1:], "/nowhere/x.tar"][:-1])) != []
    with pytest.raises(InputError):
        webdataset_pipeline(str(tmp_path / "none-*.tar"))


def test_a_torn_tar_goes_to_the_handler_and_what_stands_behind_is_read(tmp_path: Path, shards: Path) -> None:
    """The third header is damaged, and the last member is cut: one sample each, as the reader has it."""
    source = tars(shards)[0]
    whole = [example.key for example in ShardReader(source)]
    with tarfile.open(source) as file:
        places = [member.offset for member in file]
    data = bytearray(source.read_bytes())
    data[places[2] : places[2] + 100] = b"\0" * 99 + b"x"
    (tmp_path / "hurt.tar").write_bytes(data[: places[-1] + 700])
    warnings: list[str] = []
    read_keys = keys(
        webdataset_pipeline(str(tmp_path / "hurt.tar"), handler=lambda error: warnings.append(str(error)) is None)
    )
    assert read_keys == [key for key in whole if key not in (whole[1], whole[-1])]
    assert f"damaged at byte {places[2]}" in warnings[0]
    with pytest.raises(CorruptSample, match="damaged at byte"):
        list(webdataset_pipeline(str(tmp_path / "hurt.tar")))
    stopped = list(webdataset_pipeline(str(tmp_path / "hurt.tar"), handler=lambda error: False))
    assert [sample["__key__"] for sample in stopped] == whole[:1]


def test_members_are_those_of_webdataset(tmp_path: Path, shards: Path) -> None:
    """Long names, folders, members of webdataset's own and empty ones."""
    data = next(iter(ShardReader(shards))).image
    names = ["a/b/1.png", "a/b/1.txt", f"{'n' * 150}.png", f"{'n' * 150}.json", "__meta__/x.png", "2.png", "2.empty"]
    for number, form in enumerate((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        path = tmp_path / f"{number}.tar"
        with tarfile.open(path, "w", format=form) as file:
            folder = tarfile.TarInfo("folder")
            folder.type = tarfile.DIRTYPE
            file.addfile(folder)
            for name in names:
                if form == tarfile.USTAR_FORMAT and len(name) > 100:
                    continue
                member = tarfile.TarInfo(name)
                content = b"" if name.endswith("empty") else data if name.endswith("png") else b"{}"
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
        theirs = list(webdataset.WebDataset(str(path), shardshuffle=False))
        ours = list(webdataset_pipeline(str(path), typed=False))
        assert [row["__key__"] for row in ours] == [row["__key__"].rpartition("/")[2] for row in theirs]
        assert [row["image"] for row in ours] == [row["png"] for row in theirs]
        assert [{**row}.get("txt") for row in ours] == [row.get("txt") for row in theirs]
