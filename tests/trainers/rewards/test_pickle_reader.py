"""Pickles of plain data are read as pickle reads them; nothing in any other is run."""

import collections
import datetime
import os
import pickle
import pickletools
import random
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainers.rewards.pickle_reader import UnsafePickle, read_pickle

PLAIN: list[Any] = [
    {
        "outputs": [0.5, 1, -3, 2**70, float("inf")],
        "x": {"y": (1, (2, 3), [])},
        "t": "ü",
        "n": None,
        "b": True,
        3: b"\x00z",
    },
    [],
    [[1.5] * 3] * 4,
    {"scores": [np.float32(0.25), np.float64(-1e9), np.int64(7), np.bool_(True)]},
    "a" * 300,
    list(range(3000)),
    (1, 2, 3, 4, 5),
    bytearray(b"abc"),
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", PLAIN, ids=range(len(PLAIN)))
def test_plain_data_is_what_pickle_reads(value: Any, protocol: int) -> None:
    if isinstance(value, bytearray) and protocol < 5:
        with pytest.raises(UnsafePickle):  # these want bytearray called
            read_pickle(pickle.dumps(value, protocol))
        return
    assert read_pickle(pickle.dumps(value, protocol)) == pickle.loads(pickle.dumps(value, protocol))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["<f4", ">f8", "i2", "u1", "?", "<i8", "f2"])
def test_arrays_of_numbers(kind: str, protocol: int) -> None:
    values = np.random.default_rng(5).integers(0, 2, (3, 4)).astype(kind)
    for array in (values, np.asfortranarray(values), values[0], values[:0], np.asarray(values[0, 0])):
        read = read_pickle(pickle.dumps({"outputs": array}, protocol))["outputs"]
        assert read.dtype == array.dtype
        assert read.shape == array.shape
        assert (read == array).all()


class Runs:
    """What a hostile server sends."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


def _flag(path: Path) -> list[bytes]:
    command = f"touch {path}"
    global_ = b"cos\nsystem\n(S'" + command.encode() + b"'\ntR."
    return [
        pickle.dumps(Runs(os.system, (command,))),
        pickle.dumps({"outputs": [0.1, Runs(os.system, (command,))]}, protocol=0),
        pickle.dumps(Runs(subprocess.check_output, (["touch", str(path)],)), protocol=5),
        pickle.dumps(Runs(eval, (f"__import__('os').system({command!r})",)), protocol=2),
        pickle.dumps(Runs(np.load, (str(path),))),
        pickle.dumps(Runs(bytes, (10**11,)), protocol=2),
        global_,
        b"\x80\x02" + b"cos\nsystem\nq\x00." + global_,
        b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        b"c_codecs\nencode\n(Vx\nVrot13\ntR.",
        b"cnumpy\ndtype\n(S'O8'\ntR.",
        b"\x82\x01.",
        b"Pid\n.",
    ]


@pytest.mark.parametrize("number", range(13))
def test_a_hostile_pickle_runs_nothing(number: int, tmp_path: Path) -> None:
    flag = tmp_path / "ran"
    with pytest.raises(UnsafePickle):
        read_pickle(_flag(flag)[number])
    assert not flag.exists()


@pytest.mark.parametrize(
    "value",
    [
        datetime.date(2026, 1, 1),
        {1, 2},
        collections.OrderedDict(a=1),
        np.array(["text"]),
        np.array([object()], dtype=object),
        np.array([1 + 2j]),
        np.zeros(2, dtype=[("a", "f4")]),
        np.float32,
        Path("x"),
        len,
    ],
    ids=str,
)
def test_what_is_no_plain_data_is_refused(value: Any) -> None:
    for protocol in (2, 4):
        with pytest.raises(UnsafePickle):
            read_pickle(pickle.dumps(value, protocol))


def test_shapes_that_no_bytes_fill_are_refused_before_memory_is_taken() -> None:
    huge = pickle.dumps(np.zeros(3), protocol=2).replace(b"K\x03\x85", b"J\xff\xff\xff\x7f\x85")
    assert pickletools.dis is not None
    with pytest.raises(UnsafePickle, match="shape"):
        read_pickle(huge)


def test_a_pickle_that_names_itself_or_a_list_without_end_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    bomb: list[Any] = [1.0]
    for _ in range(64):
        bomb = [bomb, bomb]
    for value in (endless, bomb):
        with pytest.raises(UnsafePickle):
            read_pickle(pickle.dumps(value))


def test_damaged_bytes_are_refused_in_our_words() -> None:
    rng = random.Random(3)
    whole = pickle.dumps({"outputs": [0.5, np.float32(1)], "x": np.arange(4)}, protocol=4)
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            read_pickle(bytes(data[: rng.randint(0, len(data))]))
        except UnsafePickle:
            continue
