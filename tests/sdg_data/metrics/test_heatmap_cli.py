"""`sdg eval heatmaps`: files of maps, boxes drawn as maps, and what was not said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdg_data.cli import run
from sdg_data.errors import ExitCode
from sdg_data.metrics.heatmap_sources import load_map, read_maps
from sdg_data.metrics.heatmaps import cc, kld, mse


def save(path: Path, heat: np.ndarray) -> str:
    path.parent.mkdir(exist_ok=True, parents=True)
    if path.suffix == ".npy":
        np.save(path, heat)
    else:
        Image.fromarray(heat).save(path)
    return path.name


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def document(tmp_path: Path, gt: str, pred: str, code: int = 0, *more: str) -> Any:
    out = tmp_path / "out.json"
    assert run(["eval", "heatmaps", "--gt", gt, "--pred", pred, "--json", str(out), *more]) == code
    return json.loads(out.read_text())


@pytest.fixture
def maps(tmp_path: Path) -> dict[str, str]:
    """Three images of 4 × 6, the last clean; predictions for the first alone (a 16-bit picture), and one too many."""
    rng = np.random.default_rng(1)
    rows: dict[str, list[dict[str, Any]]] = {"gt": [], "pred": []}
    for n in range(3):
        heat = np.zeros((4, 6), np.uint8) if n == 2 else rng.integers(0, 256, (4, 6)).astype(np.uint8)
        rows["gt"].append({"key": f"i{n}", "artifact_heatmap": save(tmp_path / f"gt{n}.png", heat), "overall": n / 2})
    guess = rng.integers(0, 65_536, (4, 6)).astype(np.uint16)
    rows["pred"] = [
        {"key": "i0", "artifact_heatmap": save(tmp_path / "p0.png", guess), "overall": 0.1},
        {"key": "i1", "artifact_heatmap": None},
        {"key": "other", "artifact_heatmap": "p0.png"},
    ]
    return {name: lines(tmp_path / f"{name}.jsonl", found) for name, found in rows.items()}


def test_files_of_maps(maps: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(tmp_path, maps["gt"], maps["pred"], ExitCode.PARTIAL)
    truths = [np.asarray(Image.open(tmp_path / f"gt{n}.png"), np.float64) / 255 for n in range(3)]
    guess = np.asarray(Image.open(tmp_path / "p0.png")).astype(np.float64) / 65_535
    heat = found["heatmaps"]["artifact"]
    assert heat["cc"] == {"mean": pytest.approx(cc(guess, truths[0]) / 2), "images": 2}
    errors = [mse(guess, truths[0]), (truths[1] ** 2).mean(), 0.0]
    assert heat["mse"] == {"mean": pytest.approx(np.mean(errors)), "images": 3}
    assert heat["mse_clean"] == {"mean": 0.0, "images": 1}
    costs = [kld(guess, truths[0]), kld(np.zeros((4, 6)), truths[1])]
    assert heat["kld"] == {"mean": pytest.approx(np.mean(costs)), "images": 2}
    assert found["heatmaps"]["misalignment"]["cc"] == {"mean": None, "images": 0}
    assert (found["silent"]["artifact"], found["missing"], found["extra"]) == (["i1", "i2"], ["i2"], ["other"])
    assert found["scores"]["overall"] == {"plcc": 0, "srcc": 0, "images": 3, "answered": 1}
    assert "other" in capsys.readouterr().err


def test_the_protocol_is_the_epsilon(maps: dict[str, str], tmp_path: Path) -> None:
    sides = (maps["gt"], maps["pred"], ExitCode.PARTIAL, "--protocol")
    costs = [document(tmp_path, *sides, name)["heatmaps"]["artifact"]["kld"]["mean"] for name in ("richhf", "mit")]
    assert costs[1] - costs[0] == pytest.approx(np.log(1e-8 / np.finfo(float).eps) / 2, abs=0.1)
    assert run(["eval", "heatmaps", "--gt", maps["gt"], "--pred", maps["pred"], "--protocol", "x"]) == ExitCode.CONFIG


def test_boxes_against_maps(tmp_path: Path) -> None:
    """A box over the left half at importance 50 is a map of .5 and 0, whatever the shape of the true map."""
    heat = np.zeros((10, 10))
    heat[:, :5] = 0.5
    gt = lines(tmp_path / "gt", [{"filepath": "SDG/a.png", "artifact_heatmap": save(tmp_path / "h.npy", heat)}])
    answer = (
        '<answer>[{"box_2d": [0, 0, 500, 1000], "label": "artifact", "description": "d", "importance": 50}]</answer>'
    )
    pred = lines(tmp_path / "pred", [{"filepath": "/x/SDG/a.png", "response": answer}])
    found = document(tmp_path, gt, pred)["heatmaps"]["artifact"]
    assert (found["mse"]["mean"], found["cc"]["mean"], found["sim"]["mean"]) == (0, pytest.approx(1), pytest.approx(1))
    # The other way round the box is the truth, drawn at --side, and the map is scaled to it.
    truth = lines(tmp_path / "truth", [{"filepath": "SDG/a.png", "ann_response": answer}])
    found = document(tmp_path, truth, gt, 0, "--side", "20")["heatmaps"]["artifact"]
    assert found["cc"]["mean"] > 0.95
    assert found["mse"]["images"] == 1


def test_an_answer_that_cannot_be_read_is_an_empty_map(tmp_path: Path) -> None:
    answer = (
        '<answer>[{"box_2d": [0, 0, 500, 1000], "label": "artifact", "description": "d", "importance": 50}]</answer>'
    )
    gt = lines(tmp_path / "gt", [{"filepath": f"{n}.png", "ann_response": answer} for n in range(2)])
    pred = lines(tmp_path / "pred", [{"filepath": f"{n}.png", "response": [answer, None][n]} for n in range(2)])
    found = document(tmp_path, gt, pred, ExitCode.PARTIAL)
    assert found["heatmaps"]["artifact"]["cc"] == {"mean": pytest.approx(0.5), "images": 2}
    assert found["failures"]["pred"] == [{"filepath": "1.png", "code": "unreadable-answer"}]


def test_maps_that_are_none_are_named(tmp_path: Path) -> None:
    good = np.ones((2, 2))
    broken = {
        "html.png": b"<html>",
        "cut.npy": b"\x93NUMPY",
        "deep.npy": np.ones((2, 2, 3)),
        "negative.npy": -good,
        "nan.npy": good * np.nan,
        "text.npy": np.array([["a"]]),
    }
    rows = [{"key": "good", "artifact_heatmap": save(tmp_path / "good.npy", good)}]
    for name, content in broken.items():
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        else:
            save(tmp_path / name, content)
        rows.append({"key": name, "artifact_heatmap": name})
    rows += [{"key": "absent", "artifact_heatmap": "no.png"}, {"key": "folder", "artifact_heatmap": "."}]
    rows += [{"key": "good", "artifact_heatmap": "good.npy"}, {"key": "number", "artifact_heatmap": 7}]
    lines(tmp_path / "rows.jsonl", rows)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write("\n{broken\n[]\n")
    found = read_maps(tmp_path)
    codes = {failure["filepath"]: failure["code"] for failure in found.failures}
    assert len(codes) == len(broken) + 6
    assert set(codes.values()) == {"not-a-map", "missing-file", "named-twice", "no-row"}
    assert load_map(tmp_path / "good.npy").tolist() == good.tolist()


def test_nothing_to_compare(maps: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = lines(tmp_path / "other", [{"key": "x", "artifact_heatmap": "gt0.png"}])
    assert run(["eval", "heatmaps", "--gt", maps["gt"], "--pred", other]) == ExitCode.INPUT
    assert "no image in common: the ground truth has i0, i1, i2; the predictions x" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(["eval", "heatmaps", "--gt", str(tmp_path / "empty"), "--pred", other]) == ExitCode.INPUT
