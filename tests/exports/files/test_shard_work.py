"""Shards written by workers are those of one process, and what goes wrong on a worker is said as it is without one."""

import hashlib
from pathlib import Path
from typing import Any

from exports.files.target import Target
from exports.run import ExportResult, run_export
from sdg_data.blobs import Blobs
from sdg_data.store.connection import Store
from sdg_data.workers.executor import WorkersExecutor
from sdg_data.workers.messages import Died
from tests.exports.worlds import EVERYTHING, fill
from tests.sdg_data.workers.numbers import Clock, ScriptedPool


def export(home: Path, folder: Path, pool: ScriptedPool | None, **more: Any) -> ExportResult:
    executor = None if pool is None else WorkersExecutor(lambda: pool, clock=pool.clock or Clock())
    store, blobs, target = Store(home), Blobs(home / "blobs"), Target(folder)
    fixed: dict[str, Any] = {"format_name": "webdataset", "name": "w", "selection": EVERYTHING, **more}
    return run_export(store, blobs, target, executor=executor, options=_options(), **fixed)


def _options() -> Any:
    from exports.formats import load_format

    return load_format("webdataset").options(shard_bytes=20_000, phash=False)


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_shards_of_workers_are_those_of_one_process(tmp_path: Path) -> None:
    fill(tmp_path / "home", 12)
    pool = ScriptedPool(["a", "b"], lambda *_: [], clock=Clock())
    dead: list[str] = []

    def script(worker: str, ticket: int, items: Any, answer: Any) -> list[Any]:
        if not dead:
            dead.append(items[0].name)
            return [Died(worker, "was killed by SIGKILL"), pool.again(worker)]
        return [answer()]

    pool._script = script
    alone = export(tmp_path / "home", tmp_path / "alone", None)
    shared = export(tmp_path / "home", tmp_path / "shared", pool)
    assert hashes(tmp_path / "alone") == hashes(tmp_path / "shared")
    shards = [path.name for path in (tmp_path / "shared").glob("*.tar")]
    assert len(shards) > 2
    assert sorted({order.name for _, (order,) in pool.handed}) == sorted(shards)
    assert shared.made == alone.made
    again = export(tmp_path / "home", tmp_path / "shared", ScriptedPool([], lambda *_: []))
    assert (again.made, again.kept) == (0, alone.made)
    (tmp_path / "shared" / shards[0]).write_bytes(b"damaged")
    pool = ScriptedPool(["a"], lambda worker, ticket, items, answer: [answer()], clock=Clock())
    assert export(tmp_path / "home", tmp_path / "shared", pool).mended == (shards[0],)
    assert [order.name for _, (order,) in pool.handed] == [shards[0]]
    assert hashes(tmp_path / "alone") == hashes(tmp_path / "shared")


def test_an_unreadable_image_is_left_out_as_without_workers(tmp_path: Path) -> None:
    fill(tmp_path / "home", 12)
    blobs = Blobs(tmp_path / "home" / "blobs")
    damaged = next(iter(blobs.iterate()))
    path = blobs.local_path(damaged)
    assert path is not None
    path.write_bytes(b"not a picture")
    pools = iter([ScriptedPool(["a"], lambda w, t, i, answer: [answer()], clock=Clock()) for _ in range(2)])
    executor = WorkersExecutor(lambda: next(pools), clock=Clock())
    results = [
        run_export(
            Store(tmp_path / "home"),
            blobs,
            Target(tmp_path / name),
            format_name="webdataset",
            name="w",
            selection=EVERYTHING,
            options=_options(),
            executor=chosen,
        )
        for name, chosen in (("alone", None), ("shared", executor))
    ]
    assert len(results[0].left_out) == 1
    assert results[0].left_out[0].key == results[1].left_out[0].key
    assert results[0].left_out[0].code == results[1].left_out[0].code
    assert hashes(tmp_path / "alone") == hashes(tmp_path / "shared")
