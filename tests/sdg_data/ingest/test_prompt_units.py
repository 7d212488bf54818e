"""Each file of prompts is one import: listed, gone on with after a crash, taken back to the digest from before."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.errors import InputError
from sdg_data.ids import prompt_id
from sdg_data.ingest import prompts as prompts_module
from sdg_data.ingest.import_unit import withdraw
from sdg_data.ingest.prompts import PromptImportOptions, import_prompts
from sdg_data.store import images, imports, prompts
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from sdg_data.store.imports import ImportEntry, ImportState


def bring(store: Store, *files: Path, **options: object) -> None:
    import_prompts(store, [str(file) for file in files], PromptImportOptions(test_share=0.5, **options))  # type: ignore[arg-type]


def entries(store: Store) -> list[ImportEntry]:
    with store.read() as tx:
        return imports.listed(tx)


def texts(store: Store) -> list[str]:
    with store.read() as tx:
        return sorted(prompt.text for prompt in prompts.page(tx))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "a.txt").write_text("a cat\na dog\na cow\n")
    (tmp_path / "b.txt").write_text("a dog\na hen\n\n")
    return tmp_path / "a.txt", tmp_path / "b.txt"


def test_each_file_is_an_import_that_can_be_taken_back(store: Store, files: tuple[Path, Path]) -> None:
    blobs = Blobs(store.home / "blobs")
    bring(store, files[1])
    before = store_digest(store, blobs)
    bring(store, files[0])
    first, second = entries(store)
    assert (first.command, first.source, first.state) == ("prompts", str(files[1]), ImportState.DONE)
    assert second.counts is not None
    assert (second.counts["prompts"]["taken"], second.counts["prompts"]["already_there"]) == (2, 1)
    assert withdraw(store, blobs, second.id) == ({"prompt": 2}, {})
    assert texts(store) == ["a dog", "a hen"]
    assert store_digest(store, blobs) == before


def test_what_another_file_has_too_stays_with_it(store: Store, files: tuple[Path, Path]) -> None:
    blobs = Blobs(store.home / "blobs")
    bring(store, *files)
    withdraw(store, blobs, 1)
    assert texts(store) == ["a dog", "a hen"]
    withdraw(store, blobs, 2)
    assert texts(store) == []


def test_the_prompt_of_an_image_stays(store: Store, files: tuple[Path, Path]) -> None:
    blobs = Blobs(store.home / "blobs")
    bring(store, files[0])
    identity = prompt_id("a cow")
    image = images.record(
        identity, images.Variant("m", "r", "{}"), 0, blob="0" * 64, size=1, media_type="image/png",
        width=8, height=8, licence="MIT", source="generated",
    )  # fmt: skip
    with store.write() as tx:
        images.insert(tx, [image])
    assert withdraw(store, blobs, 1) == ({"prompt": 2}, {"prompt": [identity]})
    assert texts(store) == ["a cow"]


def test_a_file_again_a_dry_run_and_a_file_without_prompts_are_no_imports(
    store: Store, files: tuple[Path, Path], tmp_path: Path
) -> None:
    bring(store, files[0])
    bring(store, files[0])
    bring(store, files[1], dry_run=True)
    (tmp_path / "none.txt").write_text("\x00\n\x07\n")
    with pytest.raises(InputError):
        bring(store, tmp_path / "none.txt")
    assert [entry.source for entry in entries(store)] == [str(files[0])]


class _Cut(BaseException):
    pass


def test_an_import_that_was_cut_off_goes_on_or_is_taken_back(
    store: Store, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = Blobs(store.home / "blobs")
    bring(store, files[1])
    before = store_digest(store, blobs)
    monkeypatch.setattr(prompts_module, "CHUNK", 1)
    rows = prompts_module.open_rows

    def cut(*arguments: object, **options: object) -> Iterator[object]:
        yield from list(rows(*arguments, **options))[:2]  # type: ignore[arg-type]
        raise _Cut

    with monkeypatch.context() as patch:
        patch.setattr(prompts_module, "open_rows", cut)
        with pytest.raises(_Cut):
            bring(store, files[0])
    assert [entry.state for entry in entries(store)] == [ImportState.DONE, ImportState.UNFINISHED]
    assert texts(store) == ["a cat", "a dog", "a hen"]
    bring(store, files[0])
    assert [entry.state for entry in entries(store)] == [ImportState.DONE, ImportState.DONE]
    withdraw(store, blobs, 2)
    assert store_digest(store, blobs) == before
    with monkeypatch.context() as patch:
        patch.setattr(prompts_module, "open_rows", cut)
        with pytest.raises(_Cut):
            bring(store, files[0])
    assert withdraw(store, blobs, entries(store)[-1].id)[0] == {"prompt": 1}
    assert store_digest(store, blobs) == before


def test_a_file_whose_name_is_no_text(store: Store, tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.txt").write_text("a cat\n")
    bring(store, tmp_path / "caf\udce9.txt", source="x")
    assert [entry.source for entry in entries(store)] == [f"{tmp_path}/caf\\udce9.txt"]


KILLED = """
import os, signal, sys
from pathlib import Path
from sdg_data.ingest import prompts
from sdg_data.store.connection import Store
prompts.CHUNK = 2
insert, left = prompts._insert, [int(sys.argv[3])]
def dying(*arguments):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return insert(*arguments)
prompts._insert = dying
prompts.import_prompts(Store(Path(sys.argv[1])), [sys.argv[2]], prompts.PromptImportOptions(test_share=0.5))
"""


def test_a_killed_import_is_withdrawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    (tmp_path / "few.txt").write_text("the first\n")
    (tmp_path / "many.txt").write_text("".join(f"prompt {number}\n" for number in range(9)))
    assert run(["--home", str(home), "prompts", "import", str(tmp_path / "few.txt")]) == 0
    before = store_digest(Store(home), Blobs(home / "blobs"))
    command = [sys.executable, "-c", KILLED, str(home), str(tmp_path / "many.txt"), "3"]
    killed = subprocess.run(command, env=os.environ, check=False)
    assert killed.returncode == -9
    assert len(texts(Store(home))) == 7
    assert run(["--home", str(home), "import", "withdraw", "2"]) == 0
    assert store_digest(Store(home), Blobs(home / "blobs")) == before
    assert "unfinished" not in capsys.readouterr().out
