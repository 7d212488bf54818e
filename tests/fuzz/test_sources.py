"""A few hundred odd sources through the importers; `python -m tests.fuzz.sources` makes any number of them."""

import json
from pathlib import Path

import pytest

from tests.fuzz import checks, sources
from tests.fuzz.running import Outcome
from tests.fuzz.source import Fate, Item, Source

WITHOUT_DEFECTS = ["archive", "folder", "table"]
WITH_DEFECTS = ["coco", "release", "richhf", "shards", "tool"]


@pytest.mark.parametrize(("families", "count"), [(WITHOUT_DEFECTS, 150), (WITH_DEFECTS, 25)], ids=str)
def test_odd_sources_are_taken_or_refused_aloud(tmp_path: Path, families: list[str], count: int) -> None:
    result = sources.fuzz(list(range(count)), 20, tmp_path, families=families)
    assert result.failures == []
    assert result.sources == count
    assert result.taken > count // 2
    assert len(result.by_code) > 8


@pytest.mark.slow
def test_many_odd_sources(tmp_path: Path) -> None:
    result = sources.fuzz(list(range(5_000)), 21, tmp_path)
    assert result.failures == []


def test_a_source_is_the_same_for_the_same_seed_and_number(tmp_path: Path) -> None:
    one, other = (sources.make_source(3, 8, tmp_path / name) for name in ("one", "other"))
    assert [item.prompt for item in one.items] == [item.prompt for item in other.items]
    assert one.odd == other.odd
    first, second = (
        {path.relative_to(source.folder): path.read_bytes() for path in source.folder.rglob("*") if path.is_file()}
        for source in (one, other)
    )
    assert first == second


def _report(seen: int, taken: int, refused: int) -> dict[str, object]:
    totals = {"seen": seen, "taken": taken, "already_there": 0, "refused": refused, "used": 0}
    listed = [{"unit": "images", "name": "x", "line": None, "code": "c", "message": "m"}] * refused
    by_code = {"refused_by_code": {"c": refused} if refused else {}}
    return {"sources": [{"source": "s", "totals": {"images": {**totals, **by_code}}, "refused": listed}]}


def test_the_checks_find_what_they_are_there_for() -> None:
    def problems(
        code: int, report: object, stored: list[checks.Stored], *items: Item, raised: str | None = None
    ) -> str:
        source = Source(1, "t", Path(), items=list(items))
        return " ".join(checks.problems_of(source, Outcome([], code, "", "error: x", raised, report), stored))

    item = Item("a cat", boxes=1, exact=[(10, 10, 30, 30)], blob="b")
    stored = checks.Stored("a cat", "train", "b", (8, 8), ((10, 10, 30, 30),))
    assert problems(0, _report(1, 1, 0), [stored], item) == ""
    assert "neither in the store nor counted" in problems(0, _report(0, 0, 0), [], item)
    assert "not taken" in problems(10, _report(1, 0, 1), [], item)
    assert "1 seen, 0 told" in problems(0, _report(1, 0, 0), [stored], item)
    assert "exit 0, though 1 were refused" in problems(0, _report(2, 1, 1), [stored], item)
    assert "CLEAN" in problems(0, _report(1, 1, 0), [checks.Stored("a cat", "train", "b", (8, 8), ())], item)
    assert "boxes [(0, 0, 9, 9)] instead" in problems(
        0, _report(1, 1, 0), [checks.Stored("a cat", "train", "b", (8, 8), ((0, 0, 9, 9),))], item
    )
    assert "other bytes" in problems(0, _report(1, 1, 0), [checks.Stored("a cat", "train", "c", (8, 8))], item)
    assert "taken, though it is none" in problems(0, _report(1, 1, 0), [stored], Item("a cat", Fate.NEVER))
    assert "not in the source" in problems(0, _report(1, 1, 0), [stored, checks.Stored("a dog", "train", "d")], item)
    assert problems(0, None, [], raised="Traceback") == "Traceback"
    assert "exit 1" in problems(1, None, [], item)


def test_an_image_of_which_every_shape_is_left_out_is_not_expected(tmp_path: Path) -> None:
    source = sources.make_source(1, 14187, tmp_path)
    assert [item.fate for item in source.items][1:] == [Fate.NEVER, Fate.NEVER]


def test_a_row_whose_only_list_is_empty_is_clean(tmp_path: Path) -> None:
    source = sources.make_source(1, 17007, tmp_path)
    assert [item.clean for item in source.items] == [False, False, True]


def test_no_two_rows_have_one_file_name(tmp_path: Path) -> None:
    sources.make_source(1, 17321, tmp_path)
    prompts = json.loads((tmp_path / "s17321" / "prompts.json").read_text("utf-8-sig"))
    assert len(prompts) == 4


def test_members_behind_damage_are_not_counted(tmp_path: Path) -> None:
    source = sources.make_source(1, 270, tmp_path)  # a header of a folder that has data
    assert source.cut
    assert source.entries is None
