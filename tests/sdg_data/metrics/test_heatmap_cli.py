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


def header(shape: tuple[int, int]) -> bytes:
    """The beginning of a NumPy file of doubles that promises a shape, and nothing behind it."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


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
    measured = document(tmp_path, maps["gt"], maps["pred"], ExitCode.PARTIAL)
    truths = [np.asarray(Image.open(tmp_path / f"gt{n}.png"), np.float64) / 255 for n in range(3)]
    guess = np.asarray(Image.open(tmp_path / "p0.png")).astype(np.float64) / 65_535
    heat = measured["heatmaps"]["artifact"]
    assert heat["cc"] == {"mean": pytest.approx(cc(guess, truths[0]) / 2), "images": 2}
    errors = [mse(guess, truths[0]), (truths[1] ** 2).mean(), 0.0]
    assert heat["mse"] == {"mean": pytest.approx(np.mean(errors)), "images": 3}
    assert heat["mse_clean"] == {"mean": 0.0, "images": 1}
    costs = [kld(guess, truths[0]), kld(np.zeros((4, 6)), truths[1])]
    assert heat["kld"] == {"mean": pytest.approx(np.mean(costs)), "images": 2}
    assert measured["heatmaps"]["misalignment"]["cc"] == {"mean": None, "images": 0}
    assert (measured["silent"]["artifact"], measured["missing"], measured["extra"]) == (["i1", "i2"], ["i2"], ["other"])
    assert measured["scores"]["overall"] == {"plcc": 0, "srcc": 0, "images": 3, "answered": 1}
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
    measured = document(tmp_path, gt, pred)["heatmaps"]["artifact"]
    assert (measured["mse"]["mean"], measured["cc"]["mean"], measured["sim"]["mean"]) == (
        0,
        pytest.approx(1),
        pytest.approx(1),
    )
    # The other way round the box is the truth, drawn at --side, and the map is scaled to it.
    truth = lines(tmp_path / "truth", [{"filepath": "SDG/a.png", "ann_response": answer}])
    measured = document(tmp_path, truth, gt, 0, "--side", "20")["heatmaps"]["artifact"]
    assert measured["cc"]["mean"] > 0.95
    assert measured["mse"]["images"] == 1


def test_an_answer_that_cannot_be_read_is_an_empty_map(tmp_path: Path) -> None:
    answer = (
        '<answer>[{"box_2d": [0, 0, 500, 1000], "label": "artifact", "description": "d", "importance": 50}]</answer>'
    )
    gt = lines(tmp_path / "gt", [{"filepath": f"{n}.png", "ann_response": answer} for n in range(2)])
    pred = lines(tmp_path / "pred", [{"filepath": f"{n}.png", "response": [answer, None][n]} for n in range(2)])
    measured = document(tmp_path, gt, pred, ExitCode.PARTIAL)
    assert measured["heatmaps"]["artifact"]["cc"] == {"mean": pytest.approx(0.5), "images": 2}
    assert measured["failures"]["pred"] == [{"filepath": "1.png", "code": "unreadable-answer"}]


def test_maps_that_are_none_are_named(tmp_path: Path) -> None:
    good = np.ones((2, 2))
    broken = {
        "html.png": b"<html>",
        "cut.npy": b"\x93NUMPY",
        "deep.npy": np.ones((2, 2, 3)),
        "negative.npy": -good,
        "nan.npy": good * np.nan,
        "text.npy": np.array([["a"]]),
        "promise.npy": header((10**6, 10**6)),
        "beyond.npy": header((10**30, 10**30)),
        "long.npy": np.zeros((1, 5000)),
        "bytes-as-floats.npy": good * 255,
        "integers.npy": np.full((2, 2), 200),
        "colours.png": np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8),
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
    measured = read_maps(tmp_path)
    codes = {failure["filepath"]: failure["code"] for failure in measured.failures}
    assert len(codes) == len(broken) + 6
    assert set(codes.values()) == {
        "not-a-map", "missing-file", "named-twice", "no-row", "too-large", "above-1", "in-colour"
    }  # fmt: skip
    assert codes["promise.npy (artifact)"] == codes["beyond.npy (artifact)"] == "not-a-map"
    assert codes["bytes-as-floats.npy (artifact)"] == codes["integers.npy (artifact)"] == "above-1"
    assert load_map(tmp_path / "good.npy").tolist() == good.tolist()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm", "b.png", "c.png", "d.npy", "e.npy", "f.tif"])
def test_the_same_map_in_every_format(tmp_path: Path, name: str) -> None:
    """Levels 0, 1/5 … 1: of 16 bits (13,107 each), of 8 bits (51 each, alone or as three equal channels), as floats."""
    levels = np.arange(6).reshape(2, 3)
    path = tmp_path / name
    if name == "a.pgm":
        path.write_bytes(b"P5 3 2 65535\n" + (levels * 13_107).astype(">u2").tobytes())
    elif name[0] == "a":
        Image.fromarray((levels * 13_107).astype(np.uint16 if path.suffix == ".png" else np.int32)).save(path)
    elif name[0] in "bc":
        grey = Image.fromarray((levels * 51).astype(np.uint8))
        (grey if name[0] == "b" else grey.convert("RGB")).save(path)
    else:
        kinds = {"d": np.float16, "e": np.float64, "f": np.float32}
        save(path, (levels / 5).astype(kinds[name[0]]))
    assert load_map(path) == pytest.approx(levels / 5, abs=1e-3 if name[0] == "d" else 1e-6)


def test_a_method_that_draws_nothing_is_measured(maps: dict[str, str], tmp_path: Path) -> None:
    """Nulls, maps of NaN and a first row without a map are a prediction: an empty one, with its costs."""
    save(tmp_path / "nan.npy", np.full((4, 6), np.nan))
    truths = [np.asarray(Image.open(tmp_path / f"gt{n}.png"), np.float64) / 255 for n in range(3)]
    for rows in (
        [{"key": f"i{n}", "artifact_heatmap": None} for n in range(3)],
        [{"key": f"i{n}", "artifact_heatmap": "nan.npy"} for n in range(3)],
        [{"key": "i0", "overall": 0.5}, {"key": "i1", "artifact_heatmap": None}],
    ):
        pred = lines(tmp_path / "quiet.jsonl", rows)
        unread = any(row.get("artifact_heatmap") for row in rows)
        measured = document(tmp_path, maps["gt"], pred, ExitCode.PARTIAL if unread else 0)
        heat = measured["heatmaps"]["artifact"]
        assert heat["cc"] == {"mean": 0, "images": 2}
        assert heat["mse"]["mean"] == pytest.approx(np.mean([(truth**2).mean() for truth in truths]))
        assert measured["silent"]["artifact"] == ["i0", "i1", "i2"]
        # As a truth the same file says nothing, unless it has scores.
        if "overall" not in rows[0]:
            assert run(["eval", "heatmaps", "--gt", pred, "--pred", maps["gt"]]) == ExitCode.INPUT


def test_scores_that_are_no_numbers_are_named(maps: dict[str, str], tmp_path: Path) -> None:
    values = [10**400, True, "0.5"]
    rows = [{"key": f"i{n}", "artifact_heatmap": None, "overall": value} for n, value in enumerate(values)]
    measured = document(tmp_path, maps["gt"], lines(tmp_path / "odd.jsonl", rows), ExitCode.PARTIAL)
    assert measured["scores"]["overall"]["answered"] == 0
    named = [{"filepath": f"i{n} (overall)", "code": "no-number"} for n in range(3)]
    assert measured["failures"]["pred"] == named


def test_a_truth_without_a_map_is_counted(
    maps: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in Path(maps["gt"]).read_text().splitlines()]
    gt = lines(tmp_path / "less.jsonl", [{**rows[0], "artifact_heatmap": None}, *rows[1:]])
    assert run(["eval", "heatmaps", "--gt", gt, "--pred", gt]) == 0
    assert "1 without a true artifact map, left out of its figures: i0" in capsys.readouterr().out


def test_nothing_to_compare(maps: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = lines(tmp_path / "other", [{"key": "x", "artifact_heatmap": "gt0.png"}])
    assert run(["eval", "heatmaps", "--gt", maps["gt"], "--pred", other]) == ExitCode.INPUT
    assert "no image in common: the ground truth has i0, i1, i2; the predictions x" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(["eval", "heatmaps", "--gt", str(tmp_path / "empty"), "--pred", other]) == ExitCode.INPUT
