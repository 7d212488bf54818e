"""Maps of images: points that keep distances as far as a plane can, lines drawn around them, and files that go on."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg_data import image_maps
from sdg_data.errors import ConfigError, InputError, MissingDependency, SdgError

ABOUT = image_maps.About("detector", "r" * 40, "vision tower")


def test_a_plane_in_a_larger_space_is_found_again() -> None:
    rng = np.random.default_rng(3)
    flat = rng.normal(size=(200, 2)) * [5.0, 1.0]
    turned, _ = np.linalg.qr(rng.normal(size=(40, 40)))
    points, axes = image_maps.project((flat @ turned[:2] + rng.normal(size=40)).astype(np.float32))
    flat -= flat.mean(axis=0)
    for one, other in ((0, 1), (3, 190), (20, 77)):
        assert np.linalg.norm(points[one] - points[other]) == pytest.approx(
            np.linalg.norm(flat[one] - flat[other]), rel=1e-4
        )
    shares = np.linalg.eigvalsh(np.cov(flat.T, bias=True))[::-1]
    assert axes[0] == f"component 1, {100 * shares[0] / shares.sum():.0f} % of the variance"


@pytest.mark.parametrize("shape", [(1, 4), (3, 1), (2, 2), (5, 3)])
def test_few_images_and_short_vectors_have_points(shape: tuple[int, int]) -> None:
    vectors = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    points, axes = image_maps.project(vectors)
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()
    assert all(axes)


def test_alike_vectors_have_one_point() -> None:
    points, axes = image_maps.project(np.ones((4, 6), np.float32))
    assert np.abs(points).max() == 0
    assert axes == ("component 1", "component 2")


def test_methods_that_cannot_be_used_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    vectors = np.eye(9, dtype=np.float32)
    with pytest.raises(ConfigError, match="pca or umap"):
        image_maps.project(vectors, "t-sne")
    with pytest.raises(InputError, match="more than 5"):
        image_maps.project(vectors[:3], "umap")
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingDependency, match="umap-learn"):
        image_maps.project(vectors, "umap")


@given(
    st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=3, max_size=8),
    st.lists(st.tuples(st.integers(-25, 25), st.integers(-25, 25)), min_size=1, max_size=20),
)
def test_inside_is_an_odd_number_of_crossings(corners: list[tuple[int, int]], points: list[tuple[int, int]]) -> None:
    from fractions import Fraction

    def odd(x: int, y: int) -> bool:
        """Edges that a ray to the right crosses, in exact numbers."""
        crossed = 0
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            if (y0 > y) != (y1 > y) and Fraction(x) < Fraction((x1 - x0) * (y - y0), y1 - y0) + x0:
                crossed += 1
        return crossed % 2 == 1

    within = image_maps.inside(np.array(corners, np.float64), np.array(points, np.int32))
    assert within.tolist() == [odd(x, y) for x, y in points]


def test_a_map_grows_and_goes_on(tmp_path: Path) -> None:
    home, rng = tmp_path, np.random.default_rng(1)
    folder = home / "maps" / "detector"
    with pytest.raises(InputError, match="no such map"):
        image_maps.load(home, "detector")
    image_maps.begin(folder, ABOUT)
    assert image_maps.names(home) == []
    with pytest.raises(InputError, match="no image has been seen"):
        image_maps.place(folder, "pca", {"a"})
    vectors = rng.normal(size=(5, 12)).astype(np.float32)
    image_maps.add_features(folder, ["c", "a"], vectors[:2])
    image_maps.begin(folder, ABOUT)
    image_maps.add_features(folder, ["b", "e", "d"], vectors[2:])
    assert image_maps.seen(folder) == set("abcde")
    assert image_maps.place(folder, "pca", set("abcd") | {"unknown"}) == 4
    places = image_maps.load(home, "detector")
    assert (list(places.image_ids), places.about.model) == (list("abcd"), "detector")
    in_order = vectors[[1, 2, 0, 4]].astype(np.float16).astype(np.float32)
    assert places.points == pytest.approx(image_maps.project(in_order)[0], abs=1e-5)
    grid = places.grid()
    assert (grid.min(), grid.max()) == (0, image_maps.SIDE)
    with pytest.raises(ConfigError, match="seen by detector"):
        image_maps.begin(folder, image_maps.About("detector", "s" * 40, "vision tower"))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "maps" / "m"
    image_maps.begin(folder, ABOUT)
    image_maps.add_features(folder, ["a", "b"], np.eye(2, 4, dtype=np.float32))
    image_maps.place(folder, "pca", {"a", "b"})
    part = folder / "features-a.parquet"
    whole = part.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"PAR1 no"):
        part.write_bytes(damaged)
        with pytest.raises(InputError, match="Remove it") as caught:
            image_maps.seen(folder)
        assert caught.value.item == str(part)
    part.write_bytes(whole)
    image_maps.add_features(folder, ["c"], np.ones((1, 3), np.float32))
    with pytest.raises(InputError, match="several lengths"):
        image_maps.place(folder, "pca", {"a", "b", "c"})
    for text in ("", "[]", "{}", json.dumps({"model": 1})):
        (folder / "about.json").write_text(text)
        with pytest.raises(SdgError):
            image_maps.load(tmp_path, "m")
    (folder / "places.parquet").write_bytes(b"x")
    with pytest.raises(InputError, match="cannot be read"):
        image_maps.load(tmp_path, "m")
