"""Every example runs, on a small store, as its README says; what it makes is checked by other means."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sdg_data import cli
from sdg_data.store import images, prompts
from sdg_data.store.connection import Store
from sdg_data.store.snapshot import publish
from tests.exports.worlds import fill
from trainers.rewards.contract import GeneratedImage
from trainers.rewards.settings import REWARDS, RewardSettings, make_reward

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images with accepted annotations; no test takes anything away from it."""
    folder = tmp_path_factory.mktemp("home")
    fill(folder)
    return folder


def run(*command: str | Path, home: Path, **environment: str) -> str:
    """Run a command as a user would, from another folder; its standard output."""
    python = Path(sys.executable).parent
    ended = subprocess.run(
        [str(word) for word in command],
        cwd=home,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "200",
            "NO_COLOR": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_every_example_is_listed_and_run_here() -> None:
    files = {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.md"}
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    here = Path(__file__).read_text(encoding="utf-8")
    assert files == {name for name in files if f"[{name}]({name})" in listed and f'"{name}"' in here}


def test_shards_are_read_and_gone_on_with(home: Path, tmp_path: Path) -> None:
    assert cli.run(["--home", str(home), "export", "run", "--no-phash", "--output", str(tmp_path / "shards")]) == 0
    output = run(sys.executable, EXAMPLES / "read_shards.py", tmp_path / "shards", home=home)
    manifest = json.loads((tmp_path / "shards" / "manifest.json").read_text())
    (count,) = [file["samples"] for file in manifest["files"] if "-train-" in file["path"] and file.get("samples")]
    assert f"'images': {count}," in output
    lines = output.splitlines()
    third = [line for line in lines if line[:1].isalnum() and "64x64" in line][2]
    assert lines[-1].split()[-1] == third.split()[0]


def test_a_format_of_ones_own_is_written_and_verified(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "yolo"
    run(sys.executable, EXAMPLES / "own_format.py", "--home", home, "--output", target, "--no-phash", home=home)
    labels = sorted(target.glob("labels/*/*.txt"))
    pictures = sorted(target.glob("images/*/*.png"))
    assert [path.stem for path in labels] == [path.stem for path in pictures]
    with Store(home).read() as tx:
        rows = tx.execute("""
            SELECT image_id, x0, y0, x1, y1, type FROM gold JOIN annotation_defects USING (annotation_id)
            ORDER BY image_id, position""").fetchall()
    expected = [
        (image, int(kind == "misalignment"), (x0 + x1) / 2000, (y0 + y1) / 2000, (x1 - x0) / 1000, (y1 - y0) / 1000)
        for image, x0, y0, x1, y1, kind in rows
    ]
    written = [
        (path.stem, int(line.split()[0]), *(float(value) for value in line.split()[1:]))
        for path in labels
        for line in path.read_text().splitlines()
    ]
    assert len(written) == len(expected) > 10
    for one, other in zip(sorted(written), sorted(expected), strict=True):
        assert one[:2] == other[:2]
        assert one[2:] == pytest.approx(other[2:], abs=6e-5)
    assert cli.run(["export", "verify", str(target)]) == 0


@pytest.mark.slow
def test_a_generator_of_ones_own_makes_images(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red circle\na blue star on a grey background\n")
    assert cli.run(["--home", str(tmp_path), "prompts", "import", str(tmp_path / "prompts.txt")]) == 0
    run(sys.executable, EXAMPLES / "own_generator.py", "--home", tmp_path, home=tmp_path)
    with Store(tmp_path).read() as tx:
        made = images.page(tx)
        texts = {prompt.id: prompt.text for prompt in prompts.page(tx)}
    assert {(texts[image.prompt_id], image.model) for image in made} == {
        ("a red circle", "plain-sana"),
        ("a blue star on a grey background", "plain-sana"),
    }


def test_a_reward_of_ones_own_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command takes it, and the sum of rewards asks it; by hand: half black, half white has a deviation of 1."""
    monkeypatch.setitem(REWARDS, "contrast", "own_reward:make")
    monkeypatch.syspath_prepend(EXAMPLES)
    half = np.zeros((8, 8, 3), np.uint8)
    half[:4] = 255
    images = [GeneratedImage(half, "stripes"), GeneratedImage(np.full((8, 8, 3), 90, np.uint8), "nothing")]
    reward = make_reward((RewardSettings(kind="contrast", weight=2.0),))
    assert [score.value for score in asyncio.run(reward.score(images))] == [pytest.approx(2.0), 0.0]

    (tmp_path / "train.txt").write_text("a red circle\na blue star\n")
    (tmp_path / "test.txt").write_text("a yellow circle\n")
    files = ("--out", "run", "--prompts", "train.txt", "--held-out", "test.txt", "--dry-run", "--json")
    assert json.loads(run(sys.executable, EXAMPLES / "own_reward.py", *files, home=tmp_path))


def test_images_of_ones_own_go_to_people(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, blob in enumerate(sorted((home / "blobs").rglob("*/*"))[:3]):
        (folder / f"{number}.png").write_bytes(blob.read_bytes())
        (folder / f"{number}.txt").write_text(f"picture number {number}")
    output = run(EXAMPLES / "label_my_images.sh", folder, tmp_path / "mine", home=tmp_path, DRY_RUN="1", MODEL="camera")
    assert "3" in output
    with Store(tmp_path / "mine").read() as tx:
        assert {image.model for image in images.page(tx)} == {"camera"}


def run_cells(name: str) -> dict[str, object]:
    """A notebook's cells in order, in one namespace, as a kernel runs them; the names that they leave."""
    names: dict[str, object] = {}
    for cell in json.loads((EXAMPLES / name).read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs"), "the notebook is kept without outputs"
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    return names


def test_the_notebook_of_frames_runs(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it shows is counted again by SQL, and an export takes the list that it writes."""
    monkeypatch.setenv("SDG_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    names = run_cells("choose_images.ipynb")
    with Store(home).read() as tx:
        several = {
            image
            for (image,) in tx.execute("""
                SELECT image_id FROM gold JOIN annotation_defects USING (annotation_id)
                GROUP BY image_id HAVING count(*) > 1""").fetchall()
        }
        ((total,),) = tx.execute("SELECT count(*) FROM images").fetchall()
        ((boxes,),) = tx.execute("SELECT count(*) FROM gold JOIN annotation_defects USING (annotation_id)").fetchall()
        ((verdicts,),) = tx.execute("SELECT count(*) FROM first_verdicts").fetchall()
    assert set(names["worst"]) == several != set()  # type: ignore[call-overload]
    assert sum(names["per_model"]["images"]) == total  # type: ignore[index]
    assert sum(names["kinds"]["defects"]) == boxes  # type: ignore[index]
    assert sum(names["people"]["images"]) == verdicts  # type: ignore[index]
    command = ["export", "run", "--no-phash", "--images", "again.txt", "--output", str(tmp_path / "out")]
    assert cli.run(["--home", str(home), *command]) == 0
    counts = json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]
    assert sum(counts["split"].values()) == len(several)


def test_the_notebook_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures are counted again by SQL."""
    monkeypatch.setenv("SDG_HOME", str(home))
    monkeypatch.setenv("PREDICTION", "annotator:anna@example.org")
    publish(Store(home))
    names = run_cells("analyse_store.ipynb")
    with Store(home).read() as tx:
        ((total,),) = tx.execute("SELECT count(*) FROM images").fetchall()
        ((boxes,),) = tx.execute("SELECT count(*) FROM gold JOIN annotation_defects USING (annotation_id)").fetchall()
    assert sum(names["counts"]["images"]) == total  # type: ignore[index]
    assert sum(names["defects"]["defects"]) == boxes  # type: ignore[index]
    assert set(names["rows"]["f1@0.5"]) <= {None, 1.0}, "she is compared with herself"  # type: ignore[index]
