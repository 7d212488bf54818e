"""Lists of images: read as written, held against the store, and taken by the commands that work on them."""

import io
import json
from pathlib import Path

import pytest

from annotate.review.routing import route
from exports.dataset.select import Selection, select
from sdg_data import cli
from sdg_data.errors import InputError
from sdg_data.settings import RoutingSettings
from sdg_data.store import image_list
from sdg_data.store.connection import Store
from tests.exports.worlds import fill


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    fill(folder, 12)
    return folder


def ids_of(home: Path) -> list[str]:
    with Store(home).read() as tx:
        return [image for (image,) in tx.execute("SELECT id FROM images ORDER BY id").fetchall()]


def test_comments_empty_lines_and_every_line_end(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbf# worst first\r\n\r\n  aa  # hands\rbb\n#cc\ndd\naa\n")
    assert image_list.read(path) == {"aa": 3, "bb": 4, "dd": 6}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    assert image_list.write(path, ["b", "a", "b"], heading="two lines\nof heading") == 2
    assert path.read_text() == "# two lines\n# of heading\nb\na\n"
    assert list(image_list.read(path)) == ["b", "a"]
    assert [file.name for file in tmp_path.iterdir()] == ["list.txt"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "names no image"),
        (b"# nothing\n", "names no image"),
        (b"\xff\xfea\x00", "UTF-16"),
        (b"a\n\xff\n", "line 2 is no UTF-8"),
    ],
)
def test_a_file_that_is_no_list_is_named(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    with pytest.raises(InputError, match=words) as caught:
        image_list.read(path)
    assert caught.value.item == str(path)


def test_a_folder_and_nothing_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.txt"):
        with pytest.raises(InputError, match="cannot read"):
            image_list.read(path)
    with pytest.raises(InputError, match="cannot write"):
        image_list.write(tmp_path / "no" / "list.txt", ["a"])


def test_an_unknown_id_is_named_with_its_line(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"{ids_of(home)[0]}\n\nnobody  # typed\n")
    for command in (["export", "run", "--dry-run"], ["annotate", "push", "--dry-run"]):
        assert cli.run(["--home", str(home), *command, "--images", str(path)]) == 4
        error = capsys.readouterr().err
        assert "1 of 2 images of the list are not in this store: nobody (line 3)" in error
        assert str(path) in error


def test_an_export_holds_the_listed_images_only(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of each six images one has a prelabel only and one no review: neither is gold."""
    with Store(home).read() as tx:
        labelled = {image for (image,) in tx.execute("SELECT image_id FROM gold").fetchall()}
    chosen = ids_of(home)[::2]
    (tmp_path / "list.txt").write_text("\n".join(chosen))
    command = ["--home", str(home), "export", "run", "--no-phash", "--json", "--output", str(tmp_path / "out")]
    code = cli.run([*command, "--images", str(tmp_path / "list.txt")])
    printed = capsys.readouterr()
    without = set(chosen) - labelled
    assert code == (10 if without else 0)
    assert json.loads(printed.out)["counts"]["split"].values()
    assert sum(json.loads(printed.out)["counts"]["split"].values()) == len(set(chosen) & labelled)
    assert all(image in printed.err for image in sorted(without)[:5])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["settings"]["selection"]["images"]["count"] == len(chosen)
    assert manifest["considered"] == {
        "images": len(chosen),
        "without_labels": len(without),
        "filtered": 0,
        "sampled_out": 0,
    }


def test_a_manifest_without_a_list_says_nothing_of_one() -> None:
    assert "images" not in Selection().model_dump(mode="json")
    one, other = (Selection(images=ids).model_dump(mode="json")["images"] for ids in (("a", "b"), ("b", "a")))
    assert one == other != Selection(images=("a", "c")).model_dump(mode="json")["images"]


def test_a_selection_made_in_python_is_checked_too(home: Path) -> None:
    with pytest.raises(InputError, match="nobody"):
        select(Store(home), Selection(images=("nobody",)))


def test_routing_sends_all_listed_images_and_no_others(home: Path) -> None:
    """The shares choose among images that nobody chose; a list is a choice. Blindness stays the image's own."""
    everything = RoutingSettings(share=1.0, annotated_elsewhere=True)
    nothing = RoutingSettings(share=0.0, annotated_elsewhere=True)
    chosen = ids_of(home)[:5]
    with Store(home).read() as tx:
        whole = {image.image_id: image.blind for image in route(tx, everything)}
        listed = route(tx, nothing, listed=chosen)
        assert not route(tx, nothing)
        elsewhere = route(tx, RoutingSettings(), ours="another tool:", listed=chosen)
    assert {image.image_id for image in listed} == set(chosen)
    assert all(image.blind == whole[image.image_id] for image in listed)
    assert len(elsewhere) < len(chosen), "images that people annotated elsewhere stay out"


def test_a_list_comes_through_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    class Piped:
        buffer = io.BytesIO(b"aa\n# no\nbb")

    monkeypatch.setattr("sys.stdin", Piped())
    assert image_list.read(Path("-")) == {"aa": 1, "bb": 3}


def test_listed_images_that_cannot_go_are_counted_and_named(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Annotated elsewhere: only those that nobody annotated can go; without a list such images are no matter."""
    elsewhere = tmp_path / "elsewhere"
    store = fill(elsewhere, 6)
    with store.write() as tx:
        tx.execute("UPDATE annotations SET source = 'another tool'")
        annotated = {image for (image,) in tx.execute("SELECT image_id FROM annotations").fetchall()}
    everything = image_list.write(tmp_path / "all.txt", ids_of(elsewhere))
    push = ["--home", str(elsewhere), "annotate", "push", "--dry-run", "--json"]
    assert cli.run([*push, "--images", str(tmp_path / "all.txt")]) == 10
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    assert (facts["to_go"], facts["cannot_go"]) == (everything - len(annotated), len(annotated))
    assert f"{len(annotated)} of the {everything} listed images cannot go" in printed.err
    assert sorted(annotated)[0] in printed.err
    assert cli.run(push) == 0
    assert "cannot_go" not in json.loads(capsys.readouterr().out)
