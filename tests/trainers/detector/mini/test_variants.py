"""Variants of an image: the picture, what was read and the prompt change together."""

import random
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from generators.mini.corpus import held_out_prompts
from sdg_data.mini.inject import Kind, sample_corrupted
from sdg_data.mini.oracle import examine, find_defects
from sdg_data.mini.reading import read
from sdg_data.mini.render import render
from sdg_data.mini.world import parse_prompt
from trainers.detector.mini.scenes import COLUMNS, GRID, NO_MARGIN, samples
from trainers.detector.mini.variants import MOST_MOVED, Motion, kind_of, variant


def test_a_motion_moves_pixels_boxes_and_left_and_right():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[10, 20] = 255
    motion = Motion(mirrored=True, dx=3, dy=-2)
    moved = motion.picture(picture)
    assert [tuple(map(int, place)) for place in np.argwhere(moved[..., 0])] == [(8, 46)]
    asked = parse_prompt("a red circle to the left of a blue star")
    assert motion.scene(asked).prompt == "a red circle to the right of a blue star"
    assert Motion(dx=3).scene(asked) == asked
    drawn = render(asked, random.Random(2))
    (before, after) = (read(drawn).objects, motion.reading(read(drawn)).objects)
    for one, other in zip(before, after, strict=True):
        x0, y0, x1, y1 = one.extent
        assert other.extent == (64 - x1 + 3, y0 - 2, 64 - x0 + 3, y1 - 2)


def test_what_is_wrong_with_a_variant_is_what_the_oracle_says_of_its_picture():
    rng = random.Random(4)
    same = 0
    for scene in islice(samples(11), 16):
        drawn = variant(read(scene.pixels), parse_prompt(scene.prompt), rng, reprompted=0.6)
        assert max(abs(drawn.motion.dx), abs(drawn.motion.dy)) <= MOST_MOVED
        shown = drawn.sample(scene.pixels)
        anew = examine(shown.pixels, shown.prompt).defects
        same += [(defect.reason, defect.box) for defect in anew] == [
            (defect.reason, defect.box) for defect in drawn.truth
        ]
    assert same >= 14  # a reading of the mirrored picture may fall on the other side of a threshold


def test_variants_ask_for_other_things_but_never_what_detectors_are_judged_on():
    rng = random.Random(6)
    judged = set(held_out_prompts(2000))
    scenes = [(read(sample.pixels), parse_prompt(sample.prompt)) for sample in islice(samples(12), 20)]
    asked: Counter[str] = Counter()
    for reading, scene in scenes * 10:
        assert variant(reading, scene, rng, reprompted=0.0).scene.groups == scene.groups
        drawn = variant(reading, scene, rng, reprompted=1.0)
        assert drawn.scene.prompt not in judged
        assert parse_prompt(drawn.scene.prompt) == drawn.scene
        asked.update({kind_of(defect).value for defect in drawn.truth})
        asked["right"] += not any(defect.type == "misalignment" for defect in drawn.truth)
    assert min(asked[kind] for kind in ("colour", "shape", "size", "count", "relation", "missing")) >= 8
    assert asked["right"] >= 20


@pytest.mark.parametrize("kind", list(Kind))
def test_each_injected_kind_is_told_from_the_oracles_statement(kind):
    rng = random.Random(17)
    kinds: Counter[Kind] = Counter()
    for _ in range(4):
        corrupted = sample_corrupted(rng, most=1, kinds=[kind])
        kinds.update(kind_of(defect) for defect in find_defects(corrupted.pixels, corrupted.prompt))
    assert kinds[kind] >= 3


def test_patches_know_how_whole_an_outline_is():
    rng = random.Random(3)
    margins = {}
    for kind in (None, Kind.BITE):
        corrupted = sample_corrupted(rng, most=1, kinds=[Kind.BITE])
        scene = parse_prompt(corrupted.prompt)
        pixels = render(scene, rng) if kind is None else corrupted.pixels
        patches = variant(read(pixels), scene, rng, reprompted=0.0).patches()
        assert patches.shape == (GRID * GRID, COLUMNS)
        margin = patches[:, 8]
        assert ((margin == NO_MARGIN) == (patches[:, 0] == 0)).all()
        margins[kind] = margin[margin != NO_MARGIN].min()
    assert margins[None] > 0 > margins[Kind.BITE]
