"""Every import is one unit: it is listed, goes on after a crash, and can be taken back to the digest from before."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exports.imports import store_rows
from exports.imports.coco import coco_rows
from exports.imports.ours import webdataset_rows
from exports.imports.records import ExternalOptions
from exports.imports.rows import ImportRow
from exports.imports.store_rows import ImportCommand, import_rows
from exports.run import ExportResult
from schemas.defect import Defect
from schemas.geometry import Box
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.errors import ExitCode, InputError, StoreError
from sdg_data.ingest.import_unit import withdraw
from sdg_data.store import annotations, images, imports, prompts
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from sdg_data.store.imports import ImportState
from tests.exports.worlds import fill, person, picture, png

Export = Callable[..., ExportResult]
World = tuple[Store, Blobs]


def world(home: Path, count: int = 6) -> World:
    return fill(home, count), Blobs(home / "blobs")


def coco_file(folder: Path, count: int = 5, *, name: str = "set", first: int = 100) -> Path:
    """Pictures of other numbers than the world's, two boxes each, the last without any."""
    folder.mkdir(exist_ok=True)
    rows, boxes = [], []
    for number in range(count):
        (folder / f"{number}.png").write_bytes(png(picture(first + number).pixels))
        rows.append({"id": number, "file_name": f"{number}.png", "prompt": f"picture {number}"})
        if number < count - 1:
            boxes += [
                {"image_id": number, "category_id": 1, "bbox": [8, 8, 16, 16], "reason": "bent"},
                {"image_id": number, "category_id": 1, "bbox": [32, 8, 16, 16], "reason": "torn"},
            ]
    data = {"images": rows, "annotations": boxes, "categories": [{"id": 1, "name": "artifact"}]}
    file = folder / f"{name}.json"
    file.write_text(json.dumps(data))
    return file


def bring(target: World, file: Path, *, where: str = "set") -> None:
    options = ExternalOptions(where=where, folder=None, test_share=0.3)
    import_rows(*target, str(file), coco_rows(file, options), command=ImportCommand("coco", {"source": where}))


def test_a_source_that_ends_in_an_error_keeps_what_stood_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Store(tmp_path / "home"), Blobs(tmp_path / "home" / "blobs")
    monkeypatch.setattr(store_rows, "BATCH_ROWS", 2)
    file = coco_file(tmp_path / "set")

    def cut(number: int) -> Iterator[ImportRow]:
        options = ExternalOptions(where="set", folder=None, test_share=0.3)
        yield from itertools.islice(coco_rows(file, options), number)
        raise InputError("the disk is gone")

    for number, kept in ((3, 2), (4, 4)):
        with pytest.raises(InputError, match="the disk is gone"):
            import_rows(*target, str(file), cut(number), command=ImportCommand("coco", {"source": "set"}))
        with target[0].read() as tx:
            stored = images.page(tx)
        assert len(stored) == kept
        assert all(target[1].get(image.blob) for image in stored)
    assert [entry.state for entry in entries(target)] == [ImportState.UNFINISHED]
    bring(target, file)
    with target[0].read() as tx:
        assert len(images.page(tx)) == 5
    assert [entry.state for entry in entries(target)] == [ImportState.DONE]


def entries(target: World) -> list[imports.ImportEntry]:
    with target[0].read() as tx:
        return imports.listed(tx)


def test_withdrawing_brings_the_digest_from_before_back(tmp_path: Path) -> None:
    target = world(tmp_path / "home")
    before = store_digest(*target)
    bring(target, coco_file(tmp_path / "a"))
    (entry,) = entries(target)
    assert (entry.command, entry.state, entry.counts) == (
        "coco",
        ImportState.DONE,
        {
            "images": {"seen": 5, "taken": 5, "already_there": 0, "refused": 0, "refused_by_code": {}, "used": 0},
            "boxes": {"seen": 8, "taken": 8, "already_there": 0, "refused": 0, "refused_by_code": {}, "used": 0},
        },
    )
    assert store_digest(*target) != before
    would, stays = withdraw(*target, entry.id, dry_run=True)
    assert (would["image"], would["annotation"], would["blob"], stays) == (5, 5, 5, {})
    deleted, stays = withdraw(*target, entry.id)
    assert (deleted, stays) == (would, {})
    assert store_digest(*target) == before
    assert entries(target)[0].state is ImportState.WITHDRAWN
    with pytest.raises(StoreError, match="withdrawn before"):
        withdraw(*target, entry.id)


def test_what_two_imports_brought_goes_with_the_last_of_them(tmp_path: Path) -> None:
    target = world(tmp_path / "home")
    empty = store_digest(*target)
    file = coco_file(tmp_path / "a")
    bring(target, file)
    alone = store_digest(*target)
    data = json.loads(file.read_text())
    file.write_text(json.dumps({**data, "images": data["images"][:-1]}))
    twin = file.with_name("other.json")
    file.rename(twin)
    bring(target, twin)
    assert store_digest(*target) == alone, "the same records again"
    assert [entry.id for entry in entries(target)] == [1], "an import that brought nothing leaves no entry"
    second = coco_file(tmp_path / "b", 7)
    bring(target, second)  # the five of before, with the last one's boxes, and two more
    withdraw(*target, 1)
    with target[0].read() as tx:
        left = {text for (text,) in tx.execute("SELECT text FROM prompts WHERE source = 'imported:set'").fetchall()}
    assert left == {f"picture {number}" for number in range(7)}, "the second import found them there"
    withdraw(*target, 2)
    assert store_digest(*target) == empty


def test_what_people_did_with_it_since_stays_and_is_named(tmp_path: Path) -> None:
    target = world(tmp_path / "home")
    bring(target, coco_file(tmp_path / "a"))
    with target[0].write() as tx:
        image = next(image for image in images.page(tx) if image.source == "imported:set")
        box = Defect(box=Box(x0=1, y0=1, x1=9, y1=9), type="artifact", reason="a dent", importance=50)
        (theirs,) = annotations.of_images(tx, [image.id])[image.id]
        mine = person(image, (box, box), 0).model_copy(update={"parent_id": theirs.id})
        annotations.insert(tx, [mine])
    deleted, stays = withdraw(*target, 1)
    assert stays == {
        "annotation": [theirs.id],
        "image": [image.id],
        "prompt": [image.prompt_id],
        "variant": [images.Variant(image.model, image.revision, image.settings).id],
    }
    assert (deleted["image"], deleted["annotation"], deleted["review"], deleted["blob"]) == (4, 4, 5, 4)
    assert target[1].get(image.blob)
    with target[0].read() as tx:
        assert {annotation.id for annotation in annotations.of_images(tx, [image.id])[image.id]} == {mine.id, theirs.id}
        assert prompts.by_ids(tx, [image.prompt_id])


def test_shards_can_be_withdrawn_too(shards: Path, tmp_path: Path) -> None:
    target = world(tmp_path / "home", 3)
    before = store_digest(*target)
    import_rows(*target, "x", webdataset_rows(str(shards)))
    with target[0].read() as tx:
        assert tx.execute("SELECT count(*) FROM stated_ids").fetchall() != [(0,)]
    deleted, stays = withdraw(*target, 1)
    assert (deleted["image"], deleted["prelabel"], stays) == (21, 4, {})
    assert store_digest(*target) == before


def test_the_commands_list_and_withdraw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, file = str(tmp_path / "home"), str(coco_file(tmp_path / "a"))
    report = tmp_path / "report.json"
    data = json.loads(Path(file).read_text())
    data["annotations"].append({"image_id": 77, "category_id": 1, "bbox": [1, 1, 9, 9], "reason": "whose?"})
    Path(file).write_text(json.dumps(data))
    ended = run(["--home", home, "import", "coco", file, "--report", str(report), "--json"])
    assert ended == ExitCode.PARTIAL
    assert json.loads(capsys.readouterr().out)["new"] == 4
    (source,) = json.loads(report.read_text())["sources"]
    assert {unit: (tally["seen"], tally["taken"], tally["refused"]) for unit, tally in source["totals"].items()} == {
        "images": (5, 4, 1),
        "boxes": (9, 8, 1),
    }
    assert {refusal["code"] for refusal in source["refused"]} == {"no-image", "doubtful-clean"}
    assert run(["--home", home, "import", "list", "--json"]) == ExitCode.OK
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["id"], listed["command"], listed["state"], listed["brought"]["image"]) == (1, "coco", "done", 4)
    assert run(["--home", home, "import", "list"]) == ExitCode.OK
    assert run(["--home", home, "import", "withdraw", "1", "--dry-run"]) == ExitCode.OK
    assert run(["--home", home, "import", "withdraw", "1"]) == ExitCode.OK
    assert run(["--home", home, "import", "withdraw", "1"]) == ExitCode.STORE
    assert run(["--home", home, "import", "withdraw", "9"]) == ExitCode.INPUT
    with Store(tmp_path / "home").read() as tx:
        assert images.page(tx) == []


KILLED = """
import os, sys
from pathlib import Path

fatal, command = int(sys.argv[2]), sys.argv[3:]
calls = 0


def deadly(module, name):
    real = getattr(module, name)

    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == fatal:
            os.kill(os.getpid(), 9)
        return real(*arguments, **options)

    setattr(module, name, call)


import sdg_data.store.connection as connection
from exports.imports import store_rows
from sdg_data.cli import run

store_rows.BATCH_ROWS = 2
for name in ("fsync", "rename", "unlink", "write"):
    deadly(os, name)
deadly(connection.duckdb, "connect")
real_utc_now = connection.utc_now
deadly(connection, "utc_now")
code = run(["--home", sys.argv[1], *command])
print(calls, file=sys.stderr)
sys.exit(code)
"""


def in_another_process(home: Path, fatal: int, *command: str) -> int:
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, str(home), str(fatal), *command],
        capture_output=True,
        cwd=Path.cwd(),
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert ran.returncode in (0, int(ExitCode.STORE), -signal.SIGKILL), ran.stderr.decode()
    return ran.returncode


@pytest.mark.slow
def test_twenty_kills_during_import_and_withdrawal(tmp_path: Path) -> None:
    """Whatever moment it dies at: the same command goes on, and a withdrawal leads to the digest from before."""
    file = str(coco_file(tmp_path / "a", 9))
    undisturbed = world(tmp_path / "whole")
    before = store_digest(*undisturbed)
    assert in_another_process(tmp_path / "whole", 10**9, "import", "coco", file) == 0
    imported = store_digest(*undisturbed)
    rng = random.Random(3)
    target = world(tmp_path / "home")
    kills = 0
    while kills < 20:
        command: tuple[str, ...] = ("import", "coco", file)
        if in_another_process(tmp_path / "home", rng.randrange(1, 70), *command) != 0:
            kills += 1
            if rng.random() < 0.5:
                assert in_another_process(tmp_path / "home", 10**9, *command) == 0
                assert store_digest(*target) == imported
        with target[0].read() as tx:
            living = [unit.id for unit in imports.listed(tx) if unit.state is not ImportState.WITHDRAWN]
        for number in living:
            if in_another_process(tmp_path / "home", rng.randrange(1, 25), "import", "withdraw", str(number)) != 0:
                kills += 1
                in_another_process(tmp_path / "home", 10**9, "import", "withdraw", str(number))
        assert store_digest(*target) == before
    assert kills >= 20
