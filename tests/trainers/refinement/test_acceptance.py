"""The acceptance test, part by part; silence accepts nothing."""

from typing import Any

import numpy as np
import pytest

from schemas.defect import Defect, DefectType, Subtype
from schemas.geometry import Box
from trainers.refinement.acceptance import AcceptanceSettings, Judged, Measurement, burden, judge
from trainers.refinement.masks import box_mask
from trainers.refinement.settings import RefineSettings, identity_of
from trainers.rewards.settings import DetectorSettings

SIZE = (32, 32)
MASK = box_mask([Box(x0=0, y0=0, x1=500, y1=500)], SIZE, cell=8, cells=0, feather=0)
IMAGE = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def defect(x: int, importance: int = 50, kind: DefectType = DefectType.ARTIFACT, **more: Any) -> Defect:
    return Defect(box=Box(x0=x, y0=x, x1=x + 100, y1=x + 100), type=kind, reason="r", importance=importance, **more)


INSIDE, OUTSIDE = defect(100, 80), defect(800, 40)


def held(after: tuple[Defect, ...] | None, **options: Any) -> Judged:
    limits = AcceptanceSettings(**options.pop("limits", {"min_seam": -1}))
    edited = IMAGE.copy()
    edited[2:6, 2:6] = 0
    return judge(
        limits,
        MASK,
        parent=IMAGE,
        edited=options.pop("edited", edited),
        before=options.pop("before", Measurement((INSIDE, OUTSIDE), options.get("reward_before"))),
        after=Measurement(after, options.get("reward_after")),
        rewarded="reward_before" in options,
    )


def test_a_defect_that_is_gone_passes_and_everything_is_measured() -> None:
    test = held((OUTSIDE,))
    assert test.reasons == ()
    assert test.answered
    assert test.measured["inside_before"] == pytest.approx(0.8)
    assert test.measured["inside_after"] == 0
    assert test.measured["outside_before"] == test.measured["outside_after"] == pytest.approx(0.4)
    assert test.measured["burden_after"] == pytest.approx(0.4)
    assert test.measured["pixels_changed_outside"] == 0
    assert test.measured["seam"] is not None


@pytest.mark.parametrize(
    ("after", "reasons"),
    [
        ((INSIDE, OUTSIDE), ("burden-inside",)),
        ((defect(100, 76), OUTSIDE), ("burden-inside",)),  # .8 to .76 falls by less than .05
        ((defect(100, 75), OUTSIDE), ()),  # exactly .05
        ((OUTSIDE, defect(700, 5)), ("burden-outside",)),
        ((defect(800, 41),), ("burden-outside",)),
        ((), ()),
        ((defect(800, 40, subtype=Subtype.TEXT),), ("text",)),
        (None, ("no-detection",)),
    ],
)
def test_each_part_has_its_reason(after: tuple[Defect, ...] | None, reasons: tuple[str, ...]) -> None:
    assert held(after).reasons == reasons


@pytest.mark.parametrize(
    ("left", "limit", "reasons"),
    [
        ((), 0, ()),
        ((defect(100, 30),), None, ()),
        ((defect(100, 30),), 0, ("burden-left",)),
        ((defect(100, 30),), 0.3, ()),
        ((defect(100, 16), defect(200, 15)), 0.3, ("burden-left",)),
    ],
)
def test_what_is_left_in_the_mask_refuses_only_where_a_limit_is_set(
    left: tuple[Defect, ...], limit: float | None, reasons: tuple[str, ...]
) -> None:
    """What lies outside of the mask is never left inside."""
    assert held((*left, OUTSIDE), limits={"min_seam": -1, "max_left": limit}).reasons == reasons


def test_a_fall_of_nothing_is_never_enough() -> None:
    assert held((INSIDE, OUTSIDE), limits={"min_fall": 0, "min_seam": -1}).reasons == ("burden-inside",)


def test_a_pixel_outside_is_enough_to_refuse() -> None:
    edited = IMAGE.copy()
    edited[31, 31] = 255 - edited[31, 31]
    test = held((OUTSIDE,), edited=edited)
    assert test.reasons == ("pixels-outside",)
    assert test.measured["pixels_changed_outside"] == 1


def test_colours_that_move_around_the_defect_are_refused_though_the_structure_is_the_same() -> None:
    flat = np.full((32, 32, 3), (248, 200, 215), np.uint8)
    grey = flat.copy()
    grey[:16, :16] = 196
    core = box_mask([Box(x0=100, y0=100, x1=300, y1=300)], SIZE, cell=1, cells=0, feather=0)

    def tried(limit: float) -> Judged:
        return judge(
            AcceptanceSettings(max_rim=limit),
            MASK,
            parent=flat,
            edited=grey,
            before=Measurement((INSIDE,)),
            after=Measurement(()),
            rewarded=False,
            core=core,
        )

    assert tried(32).reasons == ("rim",)
    assert tried(32).measured["rim"] == 52  # the red channel moves by 248 − 196, the others by less
    assert tried(52).reasons == ()


def test_a_seam_under_the_limit_is_refused() -> None:
    edited = IMAGE.copy()
    edited[:16, :16] = 255
    assert held((OUTSIDE,), edited=edited, limits={"min_seam": 0.99}).reasons == ("seam",)


@pytest.mark.parametrize(
    ("before", "after", "reasons", "answered"),
    [
        (1.0, 1.0, (), True),
        (1.0, 0.9, ("reward",), True),
        (1.0, None, ("no-reward",), False),
        (None, 1.0, ("no-reward",), False),
    ],
)
def test_a_reward_may_not_fall_nor_be_silent(
    before: float | None, after: float | None, reasons: tuple[str, ...], answered: bool
) -> None:
    test = held((OUTSIDE,), reward_before=before, reward_after=after)
    assert (test.reasons, test.answered) == (reasons, answered)


def test_types_have_weights() -> None:
    limits = AcceptanceSettings(artifact_weight=2, misalignment_weight=0.5)
    both = (defect(100, 50), defect(800, 50, DefectType.MISALIGNMENT))
    assert burden(both, limits) == (pytest.approx(1.25), 0)
    assert burden(both, limits, MASK) == (pytest.approx(1.0), pytest.approx(0.25))


@pytest.mark.parametrize(
    ("after", "new"),
    [
        ((), 0),
        ((defect(100, 20),), 0),  # the artifact without a subtype that was there
        ((defect(100, 20, subtype=Subtype.TEXTURE),), 1),
        ((defect(100, 20, DefectType.MISALIGNMENT),), 1),
        ((defect(100, 10, subtype=Subtype.TEXTURE), defect(100, 10, DefectType.MISALIGNMENT)), 2),
    ],
)
def test_a_defect_of_a_new_kind_refuses_only_where_it_is_asked_for(after: tuple[Defect, ...], new: int) -> None:
    before = Measurement((INSIDE,))
    allowed = held(after, before=before)
    assert allowed.reasons == ()
    assert allowed.measured["new_kinds"] == new
    refused = held(after, before=before, limits={"min_seam": -1, "new_kinds": False})
    assert refused.reasons == (("new-kind",) if new else ())


def test_a_setting_that_is_younger_than_runs_leaves_their_ids() -> None:
    def settings(**acceptance: bool | float | None) -> str:
        chosen = RefineSettings.model_validate({"acceptance": acceptance})
        named = {"source": "gold", "editor": "{}", "revision": "1", "template": "t"}
        return identity_of(chosen, **named, detector=DetectorSettings()).settings

    assert "new_kinds" not in settings()
    assert settings() == settings(new_kinds=True)
    assert settings(new_kinds=False) != settings()
    assert "max_left" not in settings()
    assert settings() == settings(max_left=None)
    assert len({settings(), settings(max_left=0), settings(max_left=0.5)}) == 3
