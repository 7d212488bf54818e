"""The oracle against pictures made here with plain drawing calls, and against injected defects with known labels."""

import random
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFilter

from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from sdg_data.mini.accuracy import match, measure
from sdg_data.mini.inject import CannotDraw, Kind, corrupt, sample_corrupted
from sdg_data.mini.oracle import examine, find_defects
from sdg_data.mini.world import parse_prompt

WHITE, GREY = (246, 246, 246), (196, 196, 196)
RED, BLUE, GREEN = (220, 40, 40), (40, 70, 220), (40, 160, 60)


def picture(
    *circles: tuple[int, int, int, tuple[int, int, int]], background: tuple[int, int, int] = WHITE
) -> npt.NDArray[np.uint8]:
    """Circles (x, y, radius, colour), drawn without the project's renderer."""
    scale = 8
    image = Image.new("RGB", (64 * scale, 64 * scale), background)
    pen = ImageDraw.Draw(image)
    for x, y, radius, colour in circles:
        pen.ellipse(
            [(x - radius) * scale, (y - radius) * scale, (x + radius) * scale, (y + radius) * scale], fill=colour
        )
    return np.asarray(image.resize((64, 64), Image.Resampling.BOX))


def said(defects: tuple[Defect, ...]) -> list[tuple[str, str | None]]:
    return [(str(defect.subtype), str(defect.attribute) if defect.attribute else None) for defect in defects]


def test_a_right_picture_has_no_defects() -> None:
    image = picture((16, 32, 8, RED), (48, 32, 8, BLUE))
    assert find_defects(image, "a red circle to the left of a blue circle on a white background") == ()


def test_a_wrong_colour_is_boxed_where_the_shape_is() -> None:
    (defect,) = find_defects(picture((32, 32, 8, BLUE)), "a red circle")
    assert said((defect,)) == [("attribute", "colour")]
    assert defect.type == "misalignment"
    assert defect.box.iou(Box(x0=375, y0=375, x1=625, y1=625)) > 0.9
    assert defect.reason == "the circle is blue, not red"


def test_a_wrong_relation_encloses_both() -> None:
    image = picture((16, 32, 8, BLUE), (48, 32, 8, RED))
    (defect,) = find_defects(image, "a red circle to the left of a blue circle")
    assert said((defect,)) == [("spatial-relation", None)]
    assert defect.box.iou(Box(x0=125, y0=375, x1=875, y1=625)) > 0.9


def test_a_missing_object_is_boxed_on_the_side_where_it_was_asked_for() -> None:
    (defect,) = find_defects(picture((48, 32, 8, BLUE)), "a red circle to the left of a blue circle")
    assert said((defect,)) == [("missing-object", None)]
    assert defect.box.iou(Box(x0=0, y0=0, x1=625, y1=1000)) > 0.95


def test_a_missing_object_without_a_place_is_boxed_as_the_whole_image() -> None:
    (defect,) = find_defects(picture((48, 32, 8, BLUE)), "a red circle and a blue circle")
    assert defect.box == Box(x0=0, y0=0, x1=1000, y1=1000)


def test_too_many_of_a_group_is_a_count_and_a_stranger_is_extra() -> None:
    image = picture((16, 16, 8, RED), (48, 16, 8, RED), (16, 48, 8, BLUE))
    assert said(find_defects(image, "a red circle and a blue circle")) == [("attribute", "count")]
    assert said(find_defects(image, "two red circles")) == [("extra-object", None)]


def test_size_and_background_are_judged_only_where_the_prompt_names_them() -> None:
    image = picture((32, 32, 11, RED), background=GREY)
    assert find_defects(image, "a red circle") == ()
    assert find_defects(image, "a large red circle on a grey background") == ()
    assert said(find_defects(image, "a small red circle")) == [("attribute", "size")]
    assert said(find_defects(image, "a red circle on a white background")) == [("attribute", "colour")]


def test_a_bite_is_an_artifact_and_not_another_shape() -> None:
    image = picture((32, 32, 10, RED), (40, 26, 6, WHITE))
    (defect,) = find_defects(image, "a red circle")
    assert said((defect,)) == [("geometry", None)]
    assert defect.type == "artifact"


def test_two_copies_grown_together_are_a_duplicate_part() -> None:
    image = picture((27, 32, 8, RED), (36, 32, 8, RED))
    assert said(find_defects(image, "a red circle")) == [("duplicate-part", None)]


def test_a_blurred_shape_has_an_edge_defect() -> None:
    sharp = Image.fromarray(picture((32, 32, 10, RED)))
    image = np.asarray(sharp.filter(ImageFilter.GaussianBlur(2.6)))
    assert said(find_defects(image, "a red circle")) == [("edge", None)]


def test_noise_inside_is_texture_and_a_spot_outside_too() -> None:
    image = picture((32, 32, 10, RED)).copy()
    image[28:37, 28:37] = np.random.default_rng(0).integers(0, 255, (9, 9, 3))
    assert said(find_defects(image, "a red circle")) == [("texture", None)]
    image = picture((32, 40, 10, RED), (12, 12, 2, GREEN))
    (defect,) = find_defects(image, "a red circle")
    assert said((defect,)) == [("texture", None)]
    assert defect.box.iou(Box(x0=156, y0=156, x1=219, y1=219)) > 0.6


def test_a_mark_just_at_the_threshold_has_a_box() -> None:
    # (20, 20, 10) is exactly as far from the background as a mark has to be, everywhere in the spot
    pixels = np.array(picture((20, 20, 8, RED), background=GREY))
    pixels[44:52, 44:52] = (216, 216, 206)
    (mark,) = find_defects(pixels, "a red circle on a grey background")
    assert said((mark,)) == [("texture", None)]
    assert (mark.box.x0, mark.box.y0, mark.box.x1, mark.box.y1) == (688, 688, 812, 812)


def test_an_empty_frame_lacks_everything() -> None:
    defects = find_defects(picture(), "two red circles and a blue star")
    assert said(defects) == [("missing-object", None), ("missing-object", None)]


def test_what_is_not_an_image_of_the_world_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        find_defects(np.zeros((32, 32, 3), np.uint8), "a red circle")
    with pytest.raises(ValueError, match="not a prompt"):
        find_defects(picture(), "a cat")


def test_matching_is_one_to_one_and_by_type() -> None:
    def defect(x0: int, kind: str = "artifact") -> Defect:
        return Defect(box=Box(x0=x0, y0=0, x1=x0 + 100, y1=100), type=DefectType(kind), reason="a", importance=50)

    label, near, far = defect(0), defect(10), defect(60)
    assert match((label,), (near, far)) == [near]
    assert match((label, label), (near,)) == [near, None]
    assert match((label,), (far,)) == [None]
    assert match((label,), (defect(0, "misalignment"),)) == [None]


def test_a_blind_oracle_and_a_liar_score_nothing() -> None:
    blind = measure(20, 1, oracle=lambda pixels, prompt: ())
    assert blind.recall == 0.0
    assert blind.false + blind.false_on_clean == 0
    lie = Defect(box=Box(x0=0, y0=0, x1=9, y1=9), type=DefectType.ARTIFACT, reason="a", importance=50)
    liar = measure(20, 1, oracle=lambda pixels, prompt: (lie,))
    assert (liar.found, liar.false, liar.false_on_clean) == (0, 20, 20)


@pytest.mark.slow
def test_injected_defects_are_found() -> None:
    accuracy = measure(100, seed=1234)
    assert accuracy.recall >= 0.95
    assert accuracy.precision >= 0.95
    assert accuracy.false_on_clean == 0


@pytest.mark.slow
def test_a_thousand_unseen_scenes() -> None:
    accuracy = measure(1000, seed=20_261_121)
    assert accuracy.recall >= 0.95
    assert accuracy.precision >= 0.95
    assert accuracy.false_on_clean <= 5


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_defect_is_drawn_labelled_and_found(kind: Kind) -> None:
    rng = random.Random(99)
    drawn = [sample_corrupted(rng, most=1, kinds=[kind]) for _ in range(12)]
    assert all(corrupted.kinds == (kind,) for corrupted in drawn)
    found = sum(match(each.defects, find_defects(each.pixels, each.prompt)) != [None] for each in drawn)
    assert found >= 11
    verdicts = Counter(
        str(defect.subtype) for corrupted in drawn for defect in find_defects(corrupted.pixels, corrupted.prompt)
    )
    assert verdicts[str(drawn[0].defects[0].subtype)] >= 9


def test_conflicting_defects_are_not_drawn() -> None:
    scene = parse_prompt("a red circle and a blue star")
    with pytest.raises(CannotDraw):
        corrupt(scene, [Kind.MISSING, Kind.EXTRA], random.Random(0))
    with pytest.raises(CannotDraw):
        corrupt(scene, [Kind.RELATION], random.Random(0))


def test_injection_repeats_by_seed_and_changes_pixels() -> None:
    one, two = sample_corrupted(random.Random(5)), sample_corrupted(random.Random(5))
    assert np.array_equal(one.pixels, two.pixels)
    assert one.defects == two.defects


def _boxed(x: int, y: int, radius: int) -> Box:
    corners = [round(value * 1000 / 64) for value in (x - radius, y - radius, x + radius, y + radius)]
    return Box(x0=corners[0], y0=corners[1], x1=corners[2], y1=corners[3])


@pytest.mark.parametrize(
    ("first", "second"),
    [((16, 32), (48, 32)), ((16, 34), (48, 31)), ((48, 14), (16, 46)), ((20, 30), (44, 34)), ((32, 16), (32, 48))],
)
def test_of_twins_the_first_in_reading_order_plays_the_first_part(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    # the radii are one pixel apart: neither "large" nor "small" tells the twins apart
    for radii in ((8, 8), (9, 8), (8, 9)):
        image = picture((*first, radii[0], RED), (*second, radii[1], RED))
        assert [str(defect.reason) for defect in find_defects(image, "a red circle and a blue circle")] == [
            "the circle is red, not blue"
        ]
        (wrong,) = find_defects(image, "a red circle and a blue circle")
        assert wrong.box.iou(_boxed(*second, radii[1])) > 0.85
        (wrong,) = find_defects(image, "a blue circle and a red circle")
        assert wrong.box.iou(_boxed(*first, radii[0])) > 0.85


def test_the_choice_between_twins_survives_noise_and_a_shift_of_a_pixel() -> None:
    rng = np.random.default_rng(3)
    chosen = set()
    for _ in range(12):
        dy = rng.integers(-2, 3, 2)
        image = picture((16, 32 + int(dy[0]), 8, RED), (48, 32 + int(dy[1]), 8, RED)).astype(int)
        noisy = np.clip(image + rng.normal(0, 3, image.shape), 0, 255).round().astype(np.uint8)
        (wrong,) = find_defects(noisy, "a blue circle and a red circle")
        chosen.add(wrong.box.x0 < 500)
    assert chosen == {True}


def test_a_size_that_is_asked_for_tells_twins_apart() -> None:
    image = picture((16, 32, 6, RED), (48, 32, 11, RED))
    (wrong,) = find_defects(image, "a large blue circle and a small red circle")
    assert wrong.reason == "the circle is red, not blue"
    assert wrong.box.iou(_boxed(48, 32, 11)) > 0.85


@pytest.mark.parametrize(("relation", "side"), [("to the left of", 48), ("to the right of", 16)])
def test_related_twins_keep_their_relation(relation: str, side: int) -> None:
    image = picture((16, 32, 8, RED), (48, 32, 8, RED))
    (wrong,) = find_defects(image, f"a red circle {relation} a blue circle")
    assert wrong.reason == "the circle is red, not blue"
    assert wrong.box.iou(_boxed(side, 32, 8)) > 0.85


def test_three_twins_fill_the_phrases_in_their_order() -> None:
    image = picture((16, 14, 8, RED), (48, 14, 8, RED), (32, 48, 8, RED))
    defects = find_defects(image, "a green circle and a red circle and a blue circle")
    assert {(defect.reason, defect.box.y0 > 500, defect.box.x0 < 300) for defect in defects} == {
        ("the circle is red, not green", False, True),
        ("the circle is red, not blue", True, False),
    }


def test_background_deviation_has_no_threshold() -> None:
    clean = picture((32, 32, 8, RED))
    hazy = clean.copy()
    hazy[::2, ::2] = np.clip(hazy[::2, ::2].astype(int) - 8, 0, 255).astype(np.uint8)
    flat, veiled = (examine(image, "a red circle").reading.background_deviation for image in (clean, hazy))
    assert flat < 0.05
    # a quarter of the pixels is 8 levels darker in three channels
    assert veiled == pytest.approx(8 * 3**0.5 / 4, rel=0.15)
