"""The account of an import: totals that add up, and every refused item kept with its place."""

import json
from pathlib import Path

import pytest
import typer

from sdg_data.errors import InputError, SdgError
from sdg_data.ingest import report as module
from sdg_data.ingest.report import ImportReport, write_report
from sdg_data.ingest.report_cli import conclude


def filled(source: str = "folder") -> ImportReport:
    report = ImportReport(source, unit="images")
    report.saw(9)
    report.take(3)
    report.keep(1)
    report.use(4)
    for number in range(4):
        report.refuse("undecodable", "no picture", name=f"{number}.png")
    report.refuse("no-prompt", "its row has none", name="rows.jsonl", line=7)
    report.saw(unit="boxes")
    report.refuse("crowd", "iscrowd is set", name="coco.json", unit="boxes")
    return report


def test_totals_add_up_and_every_refused_item_is_written(tmp_path: Path) -> None:
    with filled() as report, filled("other\udcff") as other:
        report.check()
        write_report([report, other], tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    assert [source["source"] for source in written["sources"]] == ["folder", "other\udcff"]
    totals = written["sources"][0]["totals"]
    assert totals["images"] == {
        "seen": 9,
        "taken": 3,
        "already_there": 1,
        "refused": 5,
        "refused_by_code": {"no-prompt": 1, "undecodable": 4},
        "used": 4,
    }
    assert totals["boxes"]["refused"] == 1
    refused = written["sources"][0]["refused"]
    assert [item["name"] for item in refused] == ["0.png", "1.png", "2.png", "3.png", "rows.jsonl", "coco.json"]
    assert refused[4] == {
        "unit": "images",
        "name": "rows.jsonl",
        "line": 7,
        "code": "no-prompt",
        "message": "its row has none",
    }


def test_an_item_that_nobody_decided_about_is_an_error() -> None:
    report = filled()
    report.saw()
    with pytest.raises(SdgError, match=r"10 images were seen, but 3 taken, 1 already there and 5 refused make 9"):
        report.check()


def test_the_table_names_the_first_of_each_code_and_counts_the_rest() -> None:
    rows = filled().rows()
    assert [(row["unit"], row["code"], row["refused"]) for row in rows] == [
        ("boxes", "crowd", 1),
        ("images", "undecodable", 4),
        ("images", "no-prompt", 1),
    ]
    assert rows[1]["first"] == "0.png, 1.png, 2.png … (1 more)"
    assert rows[2]["first"] == "rows.jsonl:7"


def test_a_command_ends_with_10_when_anything_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        conclude([filled()], report_file=tmp_path / "r.json", as_json=True)
    assert ended.value.exit_code == 10
    said = capsys.readouterr()
    assert said.out == ""
    assert "6 left out: 1 crowd, 1 no-prompt, 4 undecodable." in said.err
    whole = ImportReport("s", unit="images")
    whole.saw()
    whole.take()
    conclude([whole], report_file=None, as_json=False)


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="cannot write the report"):
        write_report([filled()], tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_many_refusals_do_not_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SPOOL_BYTES", 1000)
    report = ImportReport("s", unit="rows")
    for number in range(100):
        report.saw()
        report.refuse("empty", "empty", name="f.csv", line=number)
    assert [refusal.line for refusal in report.refusals()] == list(range(100))
    report.saw()
    report.refuse("empty", "empty", name="f.csv", line=100)
    assert len(list(report.refusals())) == 101
