"""Lists that a home keeps by name: they grow and shrink by their images alone, and nobody's change is lost."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg_data.errors import InputError, StoreLocked
from sdg_data.locks import stage_lock
from sdg_data.store import image_list, kept_lists


def test_what_others_wrote_into_a_list_stays(tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    path = folder / "hands.txt"
    path.write_bytes("# ask Ann\u2028about these\r\naa  # the left one\r\n\r\nbb".encode())
    added = kept_lists.add(tmp_path, " hands ", ["bb", "cc", "cc"])
    assert (added.name, added.changed, added.total, added.path) == ("hands", 1, 3, path)
    assert path.read_bytes() == "# ask Ann\u2028about these\r\naa  # the left one\r\n\r\nbb\ncc\n".encode()
    gone = kept_lists.take_out(tmp_path, "hands", ["aa", "zz"])
    assert (gone.changed, gone.total, gone.path) == (1, 2, path)
    assert path.read_bytes() == "# ask Ann\u2028about these\r\n\r\nbb\ncc\n".encode()
    assert list(image_list.read(path)) == ["bb", "cc"]
    empty = kept_lists.take_out(tmp_path, "hands", ["bb", "cc"])
    assert (empty.changed, empty.total, empty.path) == (2, 0, None)
    assert kept_lists.by_name(tmp_path) == {}
    assert list(folder.iterdir()) == []


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(["a", "b"]), st.lists(st.sampled_from("uvwxyz"), min_size=1)),
        max_size=20,
    )
)
def test_lists_are_sets_in_the_order_of_their_coming(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[bool, str, list[str]]]
) -> None:
    home = tmp_path_factory.mktemp("home")
    right: dict[str, list[str]] = {}
    for adding, name, ids in moves:
        known = right.get(name, [])
        if adding:
            kept = kept_lists.add(home, name, ids)
            right[name] = known + [image for image in dict.fromkeys(ids) if image not in known]
        elif known:
            kept = kept_lists.take_out(home, name, ids)
            right[name] = [image for image in known if image not in ids]
        else:
            with pytest.raises(InputError, match="no such list"):
                kept_lists.take_out(home, name, ids)
            continue
        assert kept.changed == abs(len(right[name]) - len(known))
        assert kept.total == len(right[name])
    assert {name: list(kept_lists.read(home, name)) for name in kept_lists.by_name(home)} == {
        name: ids for name, ids in right.items() if ids
    }
    for image in "uvwxyz":
        assert kept_lists.containing(home, image) == sorted(name for name, ids in right.items() if image in ids)


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    ids = [f"{n:032x}" for n in range(24)]
    with ThreadPoolExecutor(6) as crowd:
        list(crowd.map(lambda image: kept_lists.add(tmp_path, "all", [image]), ids))
    assert sorted(kept_lists.read(tmp_path, "all")) == ids


@pytest.mark.parametrize(
    "name",
    ["", "  ", "../x", "a/b", "a\\b", ".hidden", "-x", "a.", "x" * 61, "a\x00b", "a\nb\x1b", "a#b", "\u202ea", "a:b"],
)
def test_a_name_that_makes_no_file_everywhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no name for a list"):
        kept_lists.add(tmp_path, name, ["aa"])
    with pytest.raises(InputError):
        kept_lists.take_out(tmp_path, name, ["aa"])
    assert list(tmp_path.iterdir()) == []


def test_names_are_words_of_any_language(tmp_path: Path) -> None:
    for name in ("Hände, neu".replace(",", ""), "手 2", "u\u0308ber", "v1.2_x-y", "7"):
        assert kept_lists.add(tmp_path, name, ["aa"]).path is not None
    assert "\u00fcber" in kept_lists.by_name(tmp_path)


def test_nothing_chosen_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image is chosen"):
        kept_lists.add(tmp_path, "x", [])
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_list_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    path = tmp_path / "lists" / "x.txt"
    path.write_bytes(b"aa\n\xff\xfe\n")
    for change in (kept_lists.add, kept_lists.take_out):
        with pytest.raises(InputError, match=r"UTF-8"):
            change(tmp_path, "x", ["aa"])
    assert path.read_bytes() == b"aa\n\xff\xfe\n"
    assert kept_lists.containing(tmp_path, "aa") == []


def test_whoever_holds_the_lists_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_lists, "PATIENCE", 0.0)
    with stage_lock(tmp_path, kept_lists.LISTS), pytest.raises(StoreLocked, match=str(os.getpid())):
        kept_lists.add(tmp_path, "x", ["aa"])
