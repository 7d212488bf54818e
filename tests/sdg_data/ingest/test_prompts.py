"""Importing prompts: what is kept, what is counted, what is rejected and where it goes."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.records import Prompt
from sdg_data import cli
from sdg_data.errors import InputError
from sdg_data.ids import content_id, prompt_id, split_of
from sdg_data.ingest.prompts import PromptImportCounts, PromptImportOptions, check_prompt, import_prompts
from sdg_data.store import prompts
from sdg_data.store.connection import Store


def run(store: Store, *files: Path | str, share: float = 0.5, **options: Any) -> list[PromptImportCounts]:
    return import_prompts(store, [str(file) for file in files], PromptImportOptions(test_share=share, **options))


def stored(store: Store) -> dict[str, str]:
    with store.read() as tx:
        return {prompt.text: prompt.source for prompt in prompts.page(tx)}


def test_a_file_with_everything_wrong_in_it_gives_its_good_lines_and_a_rejects_file(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mixed.txt"
    lines = [
        b"a cat",
        b"  a\tcat ",
        b"",
        b"   ",
        b"red \x00 nul",
        b"bell \x07",
        b"\xff\xfe\xfa",
        b"x" * 10_000,
        b"y" * 10_001,
        b"z" * 100_000,
        "cafe\u0301".encode(),
        "caf\u00e9".encode(),
        b"A cat",
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    [counts] = run(store, path)
    assert stored(store) == dict.fromkeys(["a cat", "x" * 10_000, "café", "A cat"], "file:mixed.txt")
    assert (counts.read, counts.new, counts.duplicates_in_file, counts.already_there, counts.rejected) == (
        13,
        4,
        2,
        0,
        7,
    )
    assert counts.rejected_by_code == {"empty": 2, "control-character": 2, "not-utf8": 1, "too-long": 2}

    assert counts.rejects_file is not None
    rejects = [json.loads(line) for line in Path(counts.rejects_file).read_text().splitlines()]
    assert [(reject["line"], reject["code"]) for reject in rejects] == [
        (3, "empty"),
        (4, "empty"),
        (5, "control-character"),
        (6, "control-character"),
        (7, "not-utf8"),
        (9, "too-long"),
        (10, "too-long"),
    ]
    assert Path(counts.rejects_file).parent == store.home / "rejects"
    assert {reject["file"] for reject in rejects} == {str(path)}
    assert all(len(reject["raw"]) <= 500 for reject in rejects)
    assert f"{path}:9: rejected: 10001 characters" in caplog.text


def test_importing_again_changes_nothing_and_overlapping_files_add_the_rest(store: Store, tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("a\nb\nc\n")
    two.write_text("c\nd\nd\n")
    first, second = run(store, one, two)
    assert (first.new, second.new, second.already_there, second.duplicates_in_file) == (3, 1, 1, 1)
    [again] = run(store, one)
    assert (again.new, again.already_there, again.read) == (0, 3, 3)
    assert stored(store) == {"a": "file:one.txt", "b": "file:one.txt", "c": "file:one.txt", "d": "file:two.txt"}


def test_chunks_do_not_change_the_result(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdg_data.ingest.prompts.CHUNK", 3)
    path = tmp_path / "p.txt"
    path.write_text("".join(f"prompt {number % 11}\n" for number in range(25)))
    [counts] = run(store, path)
    assert (counts.read, counts.new, counts.duplicates_in_file) == (25, 11, 14)
    assert len(stored(store)) == 11


def test_texts_that_look_alike_are_one_prompt(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "twins.txt"
    variants = ["{}", "\ufeff{}", "{} \u2060", "{}\u00ad", "{}  "]
    texts = [f"a red{mark} house beside a lake, number {n}" for n in range(50) for mark in ("", "\u200b", "\u00ad")]
    path.write_text("\n".join(variant.format(text) for text in texts for variant in variants))
    [counts] = run(store, path)
    assert (counts.read, counts.new, counts.duplicates_in_file) == (750, 50, 700)
    assert set(stored(store)) == {f"a red house beside a lake, number {n}" for n in range(50)}


def old_prompt(text: str) -> Prompt:
    """As it was stored before invisible characters were stripped."""
    identity = content_id("prompt", text)
    return Prompt(id=identity, text=text, source="file:old.txt", licence=None, split=split_of(identity, 0.5))


def test_a_prompt_stored_by_the_first_rule_is_found_again(store: Store, tmp_path: Path) -> None:
    kept = [
        old_prompt(text) for text in ("a red\u200b house", "a\u00ad boat", "a boat", "a \u200btree", "a\u200b tree")
    ]
    with store.write() as tx:
        prompts.insert(tx, kept)
    path = tmp_path / "p.txt"
    path.write_text("a red\u200b house\na red house\na boat\na\u00ad boat\na tree\na cat\n")
    [counts] = run(store, path, dry_run=True)
    assert (counts.new, counts.already_there, counts.duplicates_in_file) == (1, 3, 2)
    [counts] = run(store, path)
    assert (counts.new, counts.already_there, counts.duplicates_in_file) == (1, 3, 2)
    with store.read() as tx:
        assert {prompt.id for prompt in prompts.page(tx)} == {prompt_id("a cat"), *(prompt.id for prompt in kept)}
        assert prompts.aliases(tx) == {
            prompt_id("a red house"): kept[0].id,
            prompt_id("a tree"): min(kept[3].id, kept[4].id),
        }


def test_source_licence_and_split_are_stored(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("n,words\n" + "".join(f"{number},prompt {number}\n" for number in range(40)))
    run(store, path, column="words", source="mine", licence="CC0-1.0", share=0.3)
    with store.read() as tx:
        rows = prompts.page(tx)
    assert len(rows) == 40
    assert {(row.source, row.licence) for row in rows} == {("mine", "CC0-1.0")}
    assert all(row.split is split_of(prompt_id(row.text), 0.3) for row in rows)


def test_a_dry_run_counts_and_stores_nothing(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("a\nb\n\n")
    [counts] = run(store, path, dry_run=True)
    assert (counts.read, counts.new, counts.rejected, counts.rejects_file) == (3, 2, 1, None)
    assert not store.home.exists()
    run(store, path)
    path.write_text("b\nc\n")
    [counts] = run(store, path, dry_run=True)
    assert (counts.new, counts.already_there) == (1, 1)
    assert set(stored(store)) == {"a", "b"}


def test_the_limit_counts_rows(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("a\n\nb\nc\n")
    [counts] = run(store, path, limit=3)
    assert (counts.read, counts.new, counts.rejected) == (3, 2, 1)


def test_a_clean_import_takes_the_old_rejects_file_away(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("a\n\n")
    [counts] = run(store, path)
    assert counts.rejects_file is not None
    path.write_text("a\n")
    [counts] = run(store, path)
    assert counts.rejects_file is None
    assert list((store.home / "rejects").iterdir()) == []


def test_nothing_is_imported_when_one_of_the_files_cannot_be_opened(store: Store, tmp_path: Path) -> None:
    good, empty = tmp_path / "good.txt", tmp_path / "empty.txt"
    good.write_text("a\n")
    empty.touch()
    for bad in (empty, tmp_path / "none.txt", tmp_path):
        with pytest.raises(InputError):
            run(store, good, bad)
    assert not store.home.exists()


@pytest.mark.parametrize("content", [b"\n\n", b"\x00\n", b"x" * 100_000])
def test_a_file_without_a_usable_prompt_is_an_error(store: Store, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="no usable prompt"):
        run(store, path)


@pytest.mark.parametrize("content", [b"prompt\n", b"\xef\xbb\xbf\n"])
def test_a_table_without_rows_is_an_error(store: Store, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(content)
    with pytest.raises(InputError):
        run(store, path)


def test_the_report_adds_up_and_a_blank_line_is_nothing_left_out(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, rows = tmp_path / "p.txt", tmp_path / "p.jsonl"
    path.write_text("a cat\n\na cat\n")
    line = ["--home", str(tmp_path / "home"), "prompts", "import", "--report", str(tmp_path / "r.json")]
    assert cli.run([*line, str(path)]) == 0
    rows.write_text('{"prompt": "a cat"}\n{"prompt": null}\n{"prompt": "a dog"}\nno json\n')
    assert cli.run([*line, str(path), str(rows), "--json"]) == 10
    said = capsys.readouterr()
    assert "2 left out: 1 empty, 1 malformed." in said.err
    first, second = json.loads((tmp_path / "r.json").read_text())["sources"]
    assert first["totals"]["prompts"] | {"refused_by_code": None, "used": None} == {
        "seen": 2,
        "taken": 0,
        "already_there": 2,
        "refused": 0,
        "refused_by_code": None,
        "used": None,
    }
    assert [(item["line"], item["code"]) for item in second["refused"]] == [(2, "empty"), (4, "malformed")]
    totals = second["totals"]["prompts"]
    assert (totals["seen"], totals["taken"], totals["already_there"]) == (4, 1, 1)


@pytest.mark.parametrize("text", ["a cat", "😀", "a\nb", "é" * 10_000, "zero\u200bwidth", " x "])
def test_good_prompts_pass(text: str) -> None:
    assert check_prompt(text) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("a\x00", "control-character"),
        ("\x1b[31mred", "control-character"),
        ("a\x7f", "control-character"),
        ("\ud83d", "not-utf8"),
        ("x" * 10_001, "too-long"),
    ],
)
def test_bad_prompts_say_why(text: str, code: str) -> None:
    problem = check_prompt(text)
    assert problem is not None
    assert problem[0] == code
