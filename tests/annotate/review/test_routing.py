"""Routing: shares, order and overlap against what was asked for, by hand and by property."""

import copy
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from annotate.labelstudio.push import RoutedImage
from annotate.review.routing import disagreement, fraction, is_blind, route, uncertainty
from schemas.geometry import Box
from schemas.records import Prelabel, Split, Tombstone, Withdrawn
from sdg_data.settings import RoutingSettings
from sdg_data.store import annotations, prelabels, tombstones
from sdg_data.store.connection import Store
from sdg_data.store.prelabels import Prelabeller
from tests.annotate.support import Home, captions
from tests.sdg_data.store.makers import START, annotation, defect, prelabel

OTHER = Prelabeller("other", "r1", "detect-1:aa", "{}")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """120 images of model `m`; two of three have a defect by the detector, of importance 20, 21, … 99.

    For reading only, as all tests share it.
    """
    made = Home(tmp_path_factory.mktemp("routing"), captions(120))
    answers = [
        prelabel(image.id) if index % 3 == 0 else prelabel(image.id, defect(importance=20 + index % 80))
        for index, image in enumerate(made.image_of.values())
    ]
    with made.store.write() as tx:
        prelabels.insert(tx, answers)
    return made


@pytest.fixture
def own(home: Home, tmp_path: Path) -> Home:
    """The same, to change."""
    shutil.copy(home.store.path, tmp_path / home.store.path.name)
    copied = copy.copy(home)
    copied.store = Store(tmp_path)
    return copied


def routed(home: Home, **settings: Any) -> list[RoutedImage]:
    with home.store.read() as tx:
        return route(tx, RoutingSettings(**settings))


def answers_of(home: Home) -> dict[str, Prelabel]:
    with home.store.read() as tx:
        return {
            key: answers[-1] for key, answers in prelabels.of_images(tx, [i.id for i in home.image_of.values()]).items()
        }


def splits_of(home: Home) -> dict[str, str]:
    with home.store.read() as tx:
        return dict(
            tx.execute("SELECT images.id, split FROM images JOIN prompts ON prompts.id = images.prompt_id").fetchall()
        )


def test_everything_goes_once_and_in_order_of_priority(home: Home) -> None:
    routed_images = routed(home)
    assert sorted(image.image_id for image in routed_images) == sorted(image.id for image in home.image_of.values())
    assert all(first.priority >= second.priority for first, second in pairwise(routed_images))
    assert routed_images == routed(home)


def test_shares_by_model_and_split_are_of_the_images_and_only_grow(home: Home) -> None:
    split_of = splits_of(home)
    by_share = {
        share: {image.image_id for image in routed(home, shares={"*": {"train": 1.0}, "m": {"test": share}})}
        for share in (0.0, 0.2, 0.6, 1.0)
    }
    tests = {image for image, split in split_of.items() if split == "test"}
    for image in split_of.keys() - tests:
        assert all(image in chosen for chosen in by_share.values())
    assert by_share[0.0] & tests == set()
    assert tests <= by_share[1.0]
    assert by_share[0.2] < by_share[0.6] < by_share[1.0]
    assert 0.4 < len(by_share[0.6] & tests) / len(tests) < 0.8
    assert routed(home, share=0.5, shares={"another": {"test": 1.0}}) == routed(home, share=0.5)


def test_clean_candidates_go_in_their_own_share(home: Home) -> None:
    clean = {image for image, answer in answers_of(home).items() if not answer.defects}
    assert len(clean) == 40
    none, some = ({image.image_id for image in routed(home, clean_share=share)} & clean for share in (0.0, 0.5))
    assert not none
    assert 10 <= len(some) <= 30
    assert len({image.image_id for image in routed(home, clean_share=0.0)} - clean) == 80


def test_any_beginning_holds_clean_and_defective_images_of_both_splits_in_proportion(home: Home) -> None:
    split_of, answers = splits_of(home), answers_of(home)
    kinds = [(split_of[image.image_id], bool(answers[image.image_id].defects)) for image in routed(home)]
    whole = Counter(kinds)
    for length in range(10, 120):
        for kind, number in Counter(kinds[:length]).items():
            assert abs(number - length * whole[kind] / len(kinds)) <= 2


def test_within_a_model_split_and_side_the_doubtful_come_first(home: Home) -> None:
    split_of, answers = splits_of(home), answers_of(home)
    for split in Split:
        gravest = [
            max(defect.importance for defect in answers[routed_.image_id].defects)
            for routed_ in routed(home)
            if split_of[routed_.image_id] == split and answers[routed_.image_id].defects
        ]
        assert gravest == sorted(gravest)


def test_two_detectors_that_differ_bring_an_image_forward(own: Home) -> None:
    settings = {"uncertainty": 0.0, "overlap": 1}
    answers = answers_of(own)
    last = next(image.image_id for image in reversed(routed(own, **settings)) if answers[image.image_id].defects)
    with own.store.write() as tx:
        prelabels.insert(tx, [prelabel(last, defect(900), by=OTHER, minute=-1)])
    split_of = splits_of(own)
    first = next(
        image.image_id
        for image in routed(own, **settings)
        if answers[image.image_id].defects and split_of[image.image_id] == split_of[last]
    )
    assert first == last


def test_blindness_is_a_function_of_the_image_and_spread_over_the_order(home: Home) -> None:
    images = [image.id for image in home.image_of.values()]
    routed_images = {image.image_id: image.blind for image in routed(home, blind_share=0.3)}
    assert routed_images == {image: fraction("annotate-blind", image) < 0.3 for image in images}
    assert 0.15 < sum(routed_images.values()) / len(routed_images) < 0.45
    more = {image.image_id: image.blind for image in routed(home, blind_share=0.6, share=0.5, uncertainty=0)}
    assert all(more[image] for image in more if routed_images[image])
    assert not any(image.blind for image in routed(home, blind_share=0.0))
    assert all(is_blind(image, 1.0) for image in images)


def test_overlap_is_given_to_its_share_of_each_split(home: Home) -> None:
    split_of = splits_of(home)
    routed_images = routed(home, overlap=3, overlap_shares={"test": 1.0, "train": 0.5})
    assert {image.overlap for image in routed_images if split_of[image.image_id] == "test"} == {3}
    train = Counter(image.overlap for image in routed_images if split_of[image.image_id] == "train")
    assert train.keys() == {1, 3}
    assert 0.3 < train[3] / train.total() < 0.7


def test_withdrawn_and_imported_images_stay_out(own: Home) -> None:
    gone, imported, ours = (image.id for image in list(own.image_of.values())[:3])
    with own.store.write() as tx:
        tombstones.insert(
            tx,
            [Tombstone(kind=Withdrawn.IMAGE, item_id=gone, reason="licence", source="t", created_at=START)],
        )
        annotations.insert(
            tx,
            [annotation(imported, "i", source="imported:release"), annotation(ours, "o", source="label-studio:1/2/3")],
        )
    assert {gone, imported} == {image.id for image in own.image_of.values()} - {o.image_id for o in routed(own)}
    assert imported in {image.image_id for image in routed(own, annotated_elsewhere=True)}


def test_images_without_a_prelabel_go_or_wait(own: Home) -> None:
    with own.store.write() as tx:
        some = [image.id for image in list(own.image_of.values())[:7]]
        answers = prelabels.of_images(tx, some)
        tombstones.insert(
            tx,
            [
                Tombstone(kind=Withdrawn.PRELABEL, item_id=answers[i][0].id, reason="x", source="t", created_at=START)
                for i in some
            ],
        )
    assert len(routed(own)) == 120
    assert {image.image_id for image in routed(own, without_prelabel=False)}.isdisjoint(some)
    with own.store.read() as tx:
        assert route(tx, RoutingSettings(without_prelabel=False), prelabels_of="nobody") == []
        assert len(route(tx, RoutingSettings(), limit=5)) == 5
        assert route(tx, RoutingSettings(), models=["x"]) == []


def test_uncertainty_by_hand() -> None:
    image = "1" * 32
    assert uncertainty(None) == 1
    assert uncertainty(prelabel(image)) == 0
    assert uncertainty(prelabel(image, defect(importance=30), defect(200, importance=80))) == pytest.approx(0.2)
    assert uncertainty(prelabel(image, defect(importance=90), repairs=("trailing-comma",))) == 0.5
    assert uncertainty(prelabel(image, attempt=2)) == 0.75


def test_disagreement_by_hand() -> None:
    image = "1" * 32
    same = defect(10)
    moved = same.model_copy(update={"box": Box(x0=15, y0=20, x1=45, y1=90)})  # IoU 25/35
    first = prelabel(image, same)
    assert disagreement([first]) == disagreement([]) == 0
    assert disagreement([first, prelabel(image, moved, by=OTHER)]) == 0
    assert disagreement([first, prelabel(image, by=OTHER)]) == 1
    assert disagreement([prelabel(image), prelabel(image, by=OTHER)]) == 0
    assert disagreement([first, prelabel(image, moved, defect(500), by=OTHER)]) == pytest.approx(1 - 2 / 3)
    other_type = defect(10, type="misalignment")
    assert disagreement([first, prelabel(image, other_type, by=OTHER)]) == 1
    # the detector's own earlier answer no longer counts
    assert disagreement([prelabel(image, minute=-5), first]) == 0
