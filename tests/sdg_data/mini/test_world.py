"""The grammar and the renderer: inverses, determinism, and geometry computed by hand."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg_data.mini.render import coverage, lay_out, render
from sdg_data.mini.world import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZE,
    Group,
    Relation,
    Scene,
    parse_prompt,
    sample_prompts,
    sample_scene,
)


@given(st.integers(0, 2**32))
def test_a_prompt_holds_the_whole_scene(seed: int) -> None:
    scene = sample_scene(random.Random(seed))
    assert parse_prompt(scene.prompt) == scene


def test_prompts_read_as_english() -> None:
    scene = Scene(
        (Group(1, "large", "red", "circle"), Group(1, None, "blue", "star"), Group(2, "small", "green", "square")),
        Relation.LEFT_OF,
        "light blue",
    )
    assert scene.prompt == (
        "a large red circle to the left of a blue star and two small green squares on a light blue background"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a photo of a cat",
        "a red circles",
        "two red circle",
        "a red circle and ",
        "five red circles",
        "a red circle on a black background",
    ],
)
def test_a_foreign_prompt_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a prompt of the mini world"):
        parse_prompt(text)


def test_a_scene_that_cannot_be_judged_is_refused() -> None:
    twice = Group(1, None, "red", "circle")
    with pytest.raises(ValueError, match="differ"):
        Scene((twice, twice))
    with pytest.raises(ValueError, match="relation"):
        Scene((Group(2, None, "red", "circle"), Group(1, None, "blue", "star")), Relation.ABOVE)


def test_sampled_prompts_differ_and_repeat_by_seed() -> None:
    prompts = sample_prompts(500, seed=4)
    assert len(set(prompts)) == 500
    assert prompts == sample_prompts(500, seed=4)
    assert prompts[:50] == sample_prompts(50, seed=4)
    assert prompts != sample_prompts(500, seed=5)


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("circle", math.pi * 100),
        ("square", (2 * 0.9 * 10) ** 2),
        ("triangle", 0.5 * (2 * 1.05 * 10) * (1.85 * 10)),
        # ten triangles from the centre, with an angle of 36 degrees between the long and the short reach
        ("star", 10 * 0.5 * 11.2 * (11.2 * 0.46) * math.sin(math.radians(36))),
    ],
)
def test_coverage_adds_up_to_the_shape_s_area(shape: str, area: float) -> None:
    assert float(coverage(shape, 32, 32, 10).sum()) == pytest.approx(area, rel=0.05)


@given(st.integers(0, 2**32))
def test_shapes_stay_apart_inside_the_frame_and_keep_the_relation(seed: int) -> None:
    rng = random.Random(seed)
    scene = sample_scene(rng)
    objects = lay_out(scene, rng).objects
    assert len(objects) == scene.object_count
    for index, drawn in enumerate(objects):
        x0, y0, x1, y1 = drawn.extent
        assert min(x0, y0) >= 0.5
        assert max(x1, y1) <= SIZE - 0.5
        for other in objects[:index]:
            u0, v0, u1, v1 = other.extent
            assert max(u0 - x1, x0 - u1, v0 - y1, y0 - v1) > 0
    if scene.relation:
        first, second = objects[0], objects[1]
        gap = second.x - first.x if scene.relation.horizontal else second.y - first.y
        assert (gap if scene.relation.first_is_lower else -gap) > 10


def test_a_render_has_the_colours_that_were_asked_for() -> None:
    for colour, shape, background in zip(COLOURS, [*SHAPES, *SHAPES], [*BACKGROUNDS, *BACKGROUNDS], strict=False):
        scene = Scene((Group(1, "large", colour, shape),), background=background)
        rng = random.Random(1)
        canvas = lay_out(scene, rng)
        image = render(scene, random.Random(1))
        drawn = canvas.objects[0]
        assert tuple(image[round(drawn.y), round(drawn.x)]) == COLOURS[colour]
        assert np.abs(image[0, 0].astype(int) - BACKGROUNDS[background]).max() <= 4


def test_rendering_repeats_by_seed() -> None:
    scene = parse_prompt("two green triangles and a yellow star")
    assert np.array_equal(render(scene, random.Random(3)), render(scene, random.Random(3)))
    assert not np.array_equal(render(scene, random.Random(3)), render(scene, random.Random(4)))
