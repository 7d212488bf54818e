"""`sdg select score`: a table that `sdg select curve` takes, which grows and never asks twice."""

import csv
from pathlib import Path

import numpy as np
import pytest

from generators.images import GeneratedImage
from schemas.records import Prompt, Split
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.errors import ExitCode, InputError
from sdg_data.ids import prompt_id
from sdg_data.mini.world import COLOURS, SIZE
from sdg_data.selection.sources import table_scores
from sdg_data.store import images, prompts
from sdg_data.store.connection import Store
from sdg_data.store.images import Variant
from trainers.rewards.score_cli import COLUMNS, due_images, read_table

TEXT = "a large red circle on a grey background"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A prompt with four plain pictures."""
    store, blobs = Store(tmp_path / "home"), Blobs(tmp_path / "home" / "blobs")
    record = Prompt(id=prompt_id(TEXT), text=TEXT, source="t", licence=None, split=Split.TRAIN)
    made = []
    for number, colour in enumerate(list(COLOURS.values())[:4]):
        data = GeneratedImage(np.full((SIZE, SIZE, 3), colour, np.uint8), "").png()
        made.append(
            images.record(
                record.id, Variant("m", "1", "{}"), number, blob=blobs.put(data), size=len(data), width=SIZE,
                height=SIZE, licence="CC0-1.0", source="generated", seed=number,
            )
        )  # fmt: skip
    with store.write() as tx:
        prompts.insert(tx, [record])
        images.insert(tx, made)
    return tmp_path / "home"


def lines(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(encoding="utf-8")))


def score(home: Path, out: Path, kind: str = "palette") -> int:
    return run(["--home", str(home), "select", "score", "--reward", kind, "--out", str(out)])


def test_every_image_has_a_score_and_nothing_is_asked_twice(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "palette.csv"
    assert score(home, out) == ExitCode.OK
    whole = out.read_bytes()
    assert len(table_scores(out, "score")) == 4
    # A process that was killed while it wrote: the torn line is asked again, the others are not.
    out.write_bytes(whole[:-20])
    capsys.readouterr()
    assert run(["--home", str(home), "select", "score", "--reward", "palette", "--out", str(out), "--json"]) == 0
    assert '"asked": 1' in capsys.readouterr().out
    assert sorted(out.read_bytes().splitlines()) == sorted(whole.splitlines())
    arguments = ["select", "curve", "--n", "1,2", "--gold", f"{out}#score", "--verifier", f"own={out}"]
    assert run(["--home", str(home), *arguments, "--keep", "own", "--json"]) == ExitCode.OK
    assert (home / "curves" / "own.json").is_file()


def test_what_fails_is_in_the_table_with_its_reason_and_is_asked_again(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "oracle.csv"
    assert score(home, out) == ExitCode.OK
    rows = lines(out)
    rows[2] |= {"score": "", "reason": "timeout"}
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    assert read_table(out, rows[0]["reward"]).keys() == {row["image_id"] for row in rows if row["score"]}
    assert score(home, out) == ExitCode.OK
    assert all(row["score"] for row in lines(out))
    assert len({row["image_id"] for row in lines(out)}) == len(lines(out)) == 4


def test_an_image_of_another_world_has_no_score_and_the_exit_code_says_so(home: Path, tmp_path: Path) -> None:
    with Store(home).write() as tx:
        tx.execute("UPDATE prompts SET text = 'a photograph of a hand'")
    out = tmp_path / "oracle.csv"
    assert score(home, out, "oracle") == ExitCode.PARTIAL
    assert [row["score"] for row in lines(out)] == [""] * 4
    assert all(row["reason"] for row in lines(out))


def test_a_table_of_another_reward_or_of_something_else_is_left_alone(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    assert score(home, out) == ExitCode.OK
    before = out.read_bytes()
    assert score(home, out, "oracle") == ExitCode.INPUT
    assert out.read_bytes() == before
    out.write_text("a,b\n1,2\n")
    assert score(home, out) == ExitCode.INPUT
    assert out.read_text() == "a,b\n1,2\n"
    out.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot read"):
        read_table(out, "palette")
    assert score(home, tmp_path / "x.csv", "nobody") == ExitCode.CONFIG


def test_a_judge_of_pairs_is_asked_about_whole_prompts() -> None:
    pools = {"p": ("a", "b"), "q": ("c", "d"), "r": ("e",)}
    assert due_images(pools, {"a", "c", "d"}, whole=False) == {"p": ["b"], "r": ["e"]}
    assert due_images(pools, {"a", "c", "d"}, whole=True) == {"p": ("a", "b"), "r": ["e"]} | {"r": ("e",)}
