"""The committed JSON Schemas are those of the code."""

import json
from pathlib import Path

import pytest

from schemas import export_json
from schemas.answer.parse import AnswerItem, render_answer
from schemas.defect import Defect
from schemas.geometry import Box


def test_the_committed_files_have_not_drifted() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in export_json.FOLDER.iterdir()}
    assert committed == export_json.json_schemas(), "run: python -m schemas.export_json"


def test_the_public_records_are_all_there() -> None:
    names = set(export_json.json_schemas())
    assert {
        "prompt.json", "image-record.json", "failure.json", "prelabel.json", "annotation.json", "review.json",
        "enrichment.json", "defect.json", "box.json", "answer.json", "answer-item.json", "parsed-answer.json",
        "percent-box.json", "qwen25vl-box.json",
    } <= names  # fmt: skip


def test_writing_fills_a_folder_and_removes_what_is_gone(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("keep")
    export_json.main(tmp_path)
    found = {path.name for path in tmp_path.iterdir()}
    assert found == set(export_json.json_schemas()) | {"notes.txt"}
    box = json.loads((tmp_path / "box.json").read_text())
    assert box["properties"]["x0"] | {"title": ""} == {"type": "integer", "minimum": 0, "maximum": 1000, "title": ""}
    assert box["additionalProperties"] is False


def rendered_items() -> list[dict[str, object]]:
    defect = Defect.model_validate(
        {"box": Box(x0=1, y0=2, x1=3, y1=4), "type": "misalignment", "subtype": "attribute", "attribute": "count",
         "reason": "three cats", "importance": 80}
    )  # fmt: skip
    text = render_answer([defect], None)
    items: list[dict[str, object]] = json.loads(text.removeprefix("<answer>").removesuffix("</answer>"))
    return items


def test_a_rendered_answer_fits_its_record() -> None:
    items = rendered_items()
    assert AnswerItem.model_validate_json(json.dumps(items[0])).box_2d == (1, 2, 3, 4)


def test_a_rendered_answer_fits_its_json_schema() -> None:
    items = rendered_items()
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(export_json.json_schemas()["answer.json"])
    jsonschema.validate(items, schema)
    for change in ({"importance": 0}, {"label": "both"}, {"box_2d": [1, 2, 3]}, {"colour": "red"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate([items[0] | change], schema)
