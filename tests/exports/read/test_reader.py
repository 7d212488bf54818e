"""The reader against what was exported: every sample once, in order, whoever reads, wherever they stopped."""

import hashlib
import itertools
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exports.dataset.assemble import sample_json
from exports.files.manifest import read_manifest
from exports.files.target import Target
from exports.read.reader import CorruptSample, ShardReader
from exports.read.shard_files import Shard
from exports.read.shard_table import ShardTable
from exports.run import ExportResult
from sdg_data.errors import ConfigError, InputError
from tests.exports.worlds import picture


def keys(reader: ShardReader) -> list[str]:
    return [example.key for example in reader]


def test_samples_come_back_as_they_were_exported(shards: Path) -> None:
    examples = list(ShardReader(shards, decode="numpy", check_bytes=True))
    assert len(examples) == 24
    for example in examples:
        assert example.sample is not None
        assert sample_json(example.sample) == example.text
        spoiled = picture(example.sample.sample)
        assert np.array_equal(example.image, spoiled.pixels)
        assert [d.box for d in example.sample.plain_defects] == [d.box for d in spoiled.defects]


def test_without_a_seed_the_order_is_that_of_the_files(shards: Path) -> None:
    expected = []
    for entry in read_manifest(Target(shards)).shards():
        data = (shards / entry.path).read_bytes()
        expected += [
            json.loads(part.split(b"\0")[0])["key"]
            for part in data.split(b'{"agreement"')[1:]
            for part in [b'{"agreement"' + part]
        ]
    assert keys(ShardReader(shards)) == expected
    train, test = (keys(ShardReader(shards, split=split)) for split in ("train", "test"))
    assert train + test == expected


def test_seeds_and_epochs_shuffle_and_repeat(shards: Path) -> None:
    reader = ShardReader(shards, seed=5)
    first, second = keys(reader), keys(reader)
    assert sorted(first) == sorted(second)
    assert first != second
    again = ShardReader(shards, seed=5)
    assert [keys(again), keys(again)] == [first, second]
    assert keys(ShardReader(shards, seed=6)) != first
    again.set_epoch(0)
    assert keys(again) == first


def test_threads_change_nothing(shards: Path) -> None:
    for options in ({"seed": 3}, {"seed": None, "decode": "numpy"}):
        plain = list(ShardReader(shards, **options))  # type: ignore[arg-type]
        ahead = list(ShardReader(shards, threads=3, **options))  # type: ignore[arg-type]
        assert [example.key for example in plain] == [example.key for example in ahead]
        assert all(np.array_equal(a.image, b.image) for a, b in zip(plain, ahead, strict=True) if options.get("decode"))


@pytest.mark.parametrize("ranks", [1, 2, 5, 24, 31])
@pytest.mark.parametrize("seed", [None, 1])
def test_ranks_share_without_loss_or_repetition(shards: Path, ranks: int, seed: int | None) -> None:
    parts = [keys(ShardReader(shards, rank=rank, world=ranks, seed=seed, typed=False)) for rank in range(ranks)]
    assert list(itertools.chain(*parts)) == keys(ShardReader(shards, seed=seed, typed=False))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_even_parts_drop_or_pad(shards: Path) -> None:
    whole = keys(ShardReader(shards, seed=1))
    drop = [keys(ShardReader(shards, rank=rank, world=5, seed=1, even="drop")) for rank in range(5)]
    assert [len(part) for part in drop] == [4] * 5
    assert list(itertools.chain(*drop)) == whole[:20]
    pad = [keys(ShardReader(shards, rank=rank, world=5, seed=1, even="pad")) for rank in range(5)]
    assert [len(part) for part in pad] == [5] * 5
    assert list(itertools.chain(*pad)) == whole + whole[:1]


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    world=st.integers(1, 7),
    seed=st.none() | st.integers(0, 3),
    even=st.sampled_from(["keep", "drop", "pad"]),
    skip=st.integers(0, 9),
)
def test_the_order_is_a_partition_of_places(
    counts: list[int], world: int, seed: int | None, even: Any, skip: int
) -> None:
    """Without files: the places that all parts name together, and what remains after a stop anywhere."""
    reader = ShardReader.__new__(ShardReader)
    reader._shards = [Shard(f"s{number}", count) for number, count in enumerate(counts)]
    reader._seed, reader._even, reader._world, reader.epoch = seed, even, world, 0
    named: list[tuple[str, int]] = []
    for rank in range(world):
        reader._rank, reader._position = rank, 0
        whole = [(shard.path, place) for shard, places in reader._runs() for place in places]
        assert len(whole) == (len(reader) if sum(counts) else 0)
        reader._position = min(skip, len(whole))
        assert [(s.path, place) for s, places in reader._runs() for place in places] == whole[reader._position :]
        named += whole
    every = Counter((f"s{n}", place) for n, count in enumerate(counts) for place in range(count))
    if even == "keep":
        assert Counter(named) == every
    elif even == "drop":
        assert not Counter(named) - every
        assert sum(every.values()) - len(named) < world
    elif sum(counts):
        assert set(named) == set(every)
        assert len(named) - sum(every.values()) < world


@pytest.mark.parametrize("stop", [0, 1, 7, 15, 23])
@pytest.mark.parametrize("threads", [0, 2])
def test_resuming_goes_on_with_the_next_sample(shards: Path, stop: int, threads: int) -> None:
    options: dict[str, Any] = {"seed": 2, "threads": threads}
    reader = ShardReader(shards, **options)
    reader.set_epoch(1)
    before = [example.key for example in itertools.islice(reader, stop)]
    state = json.loads(json.dumps(reader.state_dict()))
    resumed = ShardReader(shards, **options)
    resumed.load_state_dict(state)
    whole = ShardReader(shards, **options)
    whole.set_epoch(1)
    assert before + keys(resumed) == keys(whole)
    assert keys(resumed) == keys(whole), "the next epoch is a whole one"


def test_a_state_of_another_reader_is_refused(shards: Path) -> None:
    state = ShardReader(shards, seed=1).state_dict()
    for other in ({"seed": 2}, {"seed": 1, "split": "train"}, {"seed": 1, "world": 2, "rank": 0}):
        with pytest.raises(ConfigError, match="another reader"):
            ShardReader(shards, **other).load_state_dict(state)  # type: ignore[arg-type]


def damaged(shards: Path, folder: Path, change: Callable[[bytearray], None]) -> tuple[list[Path], list[str]]:
    """A copy of the shards with a change to the second; the paths, and the keys as they were."""
    paths = []
    for number, path in enumerate(sorted(shards.glob("mini-train-*.tar"))):
        data = bytearray(path.read_bytes())
        if number == 1:
            change(data)
        (folder / path.name).write_bytes(data)
        paths.append(folder / path.name)
    return paths, keys(ShardReader(sorted(shards.glob("mini-train-*.tar"))))


def flip(data: bytearray, place: int) -> None:
    data[place] ^= 0x40


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: flip(data, data.index(b'"key"')), "its JSON is no sample"),
        (lambda data: flip(data, data.index(b"IDAT") + 100), "damaged"),
        (lambda data: flip(data, data.index(b".png")), "header"),
        (lambda data: flip(data, data.index(b".json")), "header"),
    ],
    ids=["json", "pixels", "image header", "json header"],
)
def test_damage_is_named_or_skipped(shards: Path, tmp_path: Path, change: Any, why: str) -> None:
    paths, whole = damaged(shards, tmp_path, change)
    with pytest.raises(CorruptSample, match=why) as caught:
        keys(ShardReader(paths, decode="numpy", check_bytes=True))
    assert "mini-train-00001.tar#0" in str(caught.value)
    reader = ShardReader(paths, decode="numpy", check_bytes=True, on_error="skip", seed=1)
    read_keys = keys(reader)
    assert len(reader.skipped) == 1
    assert why in reader.skipped[0]
    first = len(keys(ShardReader(paths[:1])))
    assert sorted(read_keys) == sorted(whole[:first] + whole[first + 1 :])


def test_a_cut_shard_loses_its_end_and_says_so(
    shards: Path, export: Callable[..., ExportResult], tmp_path: Path
) -> None:
    export(tmp_path, shard_bytes=20_000)
    path = tmp_path / "mini-train-00000.tar"
    path.write_bytes(path.read_bytes()[:9_000])
    reader = ShardReader(tmp_path, on_error="skip")
    read_keys = keys(reader)
    assert len(read_keys) + len(reader.skipped) == 24
    assert reader.skipped
    assert set(read_keys) < set(keys(ShardReader(shards)))
    with pytest.raises(CorruptSample):
        keys(ShardReader(tmp_path))


def test_labels_that_were_changed_are_never_read(shards: Path, tmp_path: Path) -> None:
    """By the manifest beside the shards, whether these are named by the folder, by a pattern, or one by one."""
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    victim = sorted(copy.glob("mini-train-*.tar"))[1]
    data = victim.read_bytes()
    victim.write_bytes(re.sub(rb'"importance":(\d)(\d)', rb'"importance":\2\1', data, count=1))
    assert victim.read_bytes() != data
    for source in (copy, str(copy / "mini-train-*.tar"), [victim], victim, f"{copy}/./{victim.name}"):
        with pytest.raises(CorruptSample, match="records are not those of the manifest"):
            list(ShardReader(source))
        table = ShardTable(source)
        with pytest.raises(CorruptSample, match="records are not those of the manifest"):
            list(table)
    reader = ShardReader(copy, on_error="skip")
    read_keys = keys(reader)
    assert len(read_keys) + len(reader.skipped) == 24
    assert len(reader.skipped) == len(ShardReader([victim]))
    victim.write_bytes(data + bytes(512))
    with pytest.raises(CorruptSample, match="bytes, the manifest says"):
        list(ShardReader(copy))
    victim.write_bytes(data)
    manifest = (copy / "manifest.json").read_bytes()
    (copy / "manifest.json").write_bytes(manifest.replace(b'"version": 2', b'"version": 1'))
    with pytest.raises(InputError, match="changed after it was written"):
        ShardReader([victim])
    (copy / "manifest.json").write_text('{"name": "an app"}')
    assert keys(ShardReader([victim])) == keys(ShardReader([shards / victim.name]))


def test_shards_elsewhere_are_fetched_and_deleted(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    memory = fsspec.filesystem("memory")
    for path in [*shards.glob("*.tar"), shards / "manifest.json"]:
        memory.pipe_file(f"/reader-test/{path.name}", path.read_bytes())
    reader = ShardReader("memory://reader-test", seed=4)
    assert keys(reader) == keys(ShardReader(shards, seed=4))
    for _ in itertools.islice(reader, 3):
        pass
    assert list(tmp_path.iterdir()) == []
    url = "memory://reader-test/mini-train-00000.tar"
    assert keys(ShardReader([url])) == keys(ShardReader([shards / "mini-train-00000.tar"]))


def test_patterns_lists_and_nothing(shards: Path) -> None:
    by_pattern = keys(ShardReader(str(shards / "mini-train-*.tar")))
    assert by_pattern == keys(ShardReader(shards, split="train"))
    count = len(list(shards.glob("mini-train-*.tar")))
    assert by_pattern == keys(ShardReader(str(shards / f"mini-train-{{00000..{count - 1:05d}}}.tar")))
    with pytest.raises(InputError, match="no such shards"):
        ShardReader(str(shards / "nothing-*.tar"))
    with pytest.raises(InputError, match="no manifest"):
        ShardReader(shards.parent / "nowhere")
    with pytest.raises(ConfigError, match="rank 2 among 2"):
        ShardReader(shards, rank=2, world=2)


def test_plain_webdataset_reads_the_shards(shards: Path) -> None:
    wds = pytest.importorskip("webdataset")
    paths = [str(shards / entry.path) for entry in read_manifest(Target(shards)).shards()]
    theirs = list(wds.WebDataset(paths, shardshuffle=False).decode("rgb8"))
    ours = list(ShardReader(shards, decode="numpy"))
    assert [example["__key__"] for example in theirs] == [example.key for example in ours]
    for a, b in zip(theirs, ours, strict=True):
        assert b.sample is not None
        assert a["json"]["prompt"] == b.sample.prompt
        assert np.array_equal(a["png"], b.image)


def test_a_dataloader_shares_parts_over_its_workers(shards: Path) -> None:
    data = pytest.importorskip("torch.utils.data")
    from exports.read.torch_reader import TorchShards

    loader = data.DataLoader(TorchShards(ShardReader(shards, seed=1)), batch_size=None, num_workers=2)
    read_keys = [example.key for example in loader]
    assert sorted(read_keys) == sorted(keys(ShardReader(shards)))


def test_decoders_agree() -> None:
    import io

    from PIL import Image

    from exports.read import decode

    pixels = picture(1).pixels
    for mode in ("RGB", "L", "P", "1"):
        for kind in ("PNG", "WEBP", "JPEG"):
            if kind == "JPEG" and mode == "P":
                continue
            buffer = io.BytesIO()
            Image.fromarray(pixels).convert(mode).save(buffer, format=kind)
            plain = np.asarray(Image.open(buffer).convert("RGB"))
            assert np.array_equal(decode.decode_rgb(buffer.getvalue()), plain), (mode, kind)
    deep = io.BytesIO()
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16).save(deep, format="PNG")
    assert np.array_equal(decode.decode_rgb(deep.getvalue())[..., 0], np.arange(4096).reshape(64, 64) // 16)
    for bad in (b"", b"hello", deep.getvalue()[:-30], buffer.getvalue()[:100]):
        with pytest.raises(ValueError, match=r"damaged|not an image"):
            decode.decode_rgb(bad)


def test_shard_hashes_are_those_of_sha256sum(shards: Path) -> None:
    for entry in read_manifest(Target(shards)).shards():
        assert hashlib.sha256((shards / entry.path).read_bytes()).hexdigest() == entry.sha256
