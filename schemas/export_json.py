"""The JSON Schemas of every public record, one file each: `python -m schemas.export_json [FOLDER]`.

They are committed in schemas/json/ for those who read the data without Python; a test fails where they have drifted.
This is the one module of the package that writes, and only when it is run.
"""

import json
import re
import sys
from pathlib import Path

from pydantic import TypeAdapter

from schemas import defect, geometry, records, release, sample
from schemas.answer import fields, parse
from schemas.base import Record

FOLDER = Path(__file__).parent / "json"


def json_schemas() -> dict[str, str]:
    """File name -> contents, for every record of the package's public modules, the released row and the answer list."""
    schemas: dict[str, object] = {
        "answer": TypeAdapter(list[fields.AnswerItem]).json_schema(),
        "sample": sample.Sample.model_json_schema(),  # its parts have no life of their own: they are in its $defs
    }
    for module in (geometry, defect, records, fields, parse, release):
        for name, value in vars(module).items():
            if isinstance(value, type) and issubclass(value, Record) and value.__module__ == module.__name__:
                schemas[_kebab(name)] = value.model_json_schema()
    return {
        f"{name}.json": json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for name, schema in sorted(schemas.items())
    }


def main(folder: Path = FOLDER) -> None:
    """Write the files, and remove those of records that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = json_schemas()
    for stale in folder.glob("*.json"):
        if stale.name not in wanted:
            stale.unlink()
    for name, contents in wanted.items():
        (folder / name).write_text(contents, encoding="utf-8")


def _kebab(name: str) -> str:
    """Words apart at capitals; a digit stays with the capitals around it: "Qwen25VLBox" -> "qwen25vl-box"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:2]))
