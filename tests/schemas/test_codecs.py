"""Conventions: examples by hand, round trips for every size and shape, and the published resize as the reference."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schemas.codecs import Coco, Gemini, LabelStudio, Qwen3VL, Qwen25VL, smart_resize
from schemas.geometry import Box, CocoBox, GeminiBox, ImageSize, PercentBox, Qwen3VLBox, Qwen25VLBox

BOX = Box(x0=100, y0=200, x1=600, y1=1000)
SIZES = st.from_type(ImageSize)


def ratio_allowed(size: ImageSize) -> bool:
    return max(size.width, size.height) <= 200 * min(size.width, size.height)


def test_each_convention_by_hand() -> None:
    image = ImageSize(width=640, height=480)
    assert Qwen3VL().encode(BOX) == Qwen3VLBox(x0=100, y0=200, x1=600, y1=1000)
    assert Gemini().encode(BOX) == GeminiBox(y0=200, x0=100, y1=1000, x1=600)
    assert LabelStudio().encode(BOX) == PercentBox(x=10, y=20, width=50, height=80)
    assert Coco(image).encode(BOX) == CocoBox(x=64, y=96, width=320, height=384)
    # 640×480 is 22.86 × 17.14 patches of 28: 23 and 17 of them.
    assert Qwen25VL.for_image(image) == Qwen25VL(ImageSize(width=644, height=476))
    assert Qwen25VL.for_image(image).encode(BOX) == Qwen25VLBox(x0=64.4, y0=95.2, x1=386.4, y1=476)


def test_the_text_forms_by_hand() -> None:
    assert Qwen3VL().write(BOX) == [100, 200, 600, 1000]
    assert Gemini().write(BOX) == [200, 100, 1000, 600]
    assert Qwen25VL(ImageSize(width=644, height=476)).write(BOX) == [64, 95, 386, 476]
    assert Gemini().read([200, 100, 1000, 600]) == BOX
    assert Qwen3VL().read([100, 200, 600, 1000]) == BOX


@given(st.from_type(Box), SIZES)
def test_encoding_and_decoding_is_the_identity(box: Box, size: ImageSize) -> None:
    assert Qwen3VL().decode(Qwen3VL().encode(box)) == box
    assert Gemini().decode(Gemini().encode(box)) == box
    assert LabelStudio().decode(LabelStudio().encode(box)) == box
    assert Coco(size).decode(Coco(size).encode(box)) == box
    assert Qwen25VL(size).decode(Qwen25VL(size).encode(box)) == box
    assert Qwen3VL().read(Qwen3VL().write(box)) == box
    assert Gemini().read(Gemini().write(box)) == box


@given(SIZES, st.data())
def test_decoding_and_encoding_moves_an_edge_by_less_than_a_thousandth(size: ImageSize, data: st.DataObject) -> None:
    def interval(limit: float) -> tuple[float, float]:
        low = data.draw(st.floats(0, limit * 0.99))
        return low, data.draw(st.floats(low + limit * 1e-6, limit))

    (left, right), (top, bottom) = interval(100), interval(100)
    percent = PercentBox(x=left, y=top, width=right - left, height=bottom - top)
    back = LabelStudio().encode(LabelStudio().decode(percent))
    assert max(abs(back.x - left), abs(back.x + back.width - right)) < 0.1 + 1e-9
    assert max(abs(back.y - top), abs(back.y + back.height - bottom)) < 0.1 + 1e-9

    (left, right), (top, bottom) = interval(size.width), interval(size.height)
    coco = CocoBox(x=left, y=top, width=right - left, height=bottom - top)
    back_coco = Coco(size).encode(Coco(size).decode(coco))
    assert max(abs(back_coco.x - left), abs(back_coco.x + back_coco.width - right)) < size.width / 1000 + 1e-6
    assert max(abs(back_coco.y - top), abs(back_coco.y + back_coco.height - bottom)) < size.height / 1000 + 1e-6

    qwen = Qwen25VLBox(x0=left, y0=top, x1=right, y1=bottom)
    back_qwen = Qwen25VL(size).encode(Qwen25VL(size).decode(qwen))
    assert max(abs(back_qwen.x0 - left), abs(back_qwen.x1 - right)) < size.width / 1000 + 1e-6
    assert max(abs(back_qwen.y0 - top), abs(back_qwen.y1 - bottom)) < size.height / 1000 + 1e-6


@given(st.from_type(Box), SIZES)
def test_whole_pixels_cost_at_most_one_unit_of_the_coarser_grid(box: Box, size: ImageSize) -> None:
    codec = Qwen25VL(size)
    numbers = codec.write(box)
    assert all(isinstance(number, int) for number in numbers)
    assert 0 <= numbers[0] < numbers[2] <= size.width
    assert 0 <= numbers[1] < numbers[3] <= size.height
    back = codec.read(numbers)
    # One unit: a thousandth where the resized side has 1000 pixels or more, else a pixel (and Box rounds by half).
    for side, edges in (
        (size.width, [(box.x0, back.x0), (box.x1, back.x1)]),
        (size.height, [(box.y0, back.y0), (box.y1, back.y1)]),
    ):
        unit = max(1.0, 1000 / side)
        assert all(abs(a - b) <= (unit if side >= 1000 else unit + 0.5) for a, b in edges)


@pytest.mark.parametrize(
    "raw",
    [
        Qwen3VLBox(x0=600, y0=200, x1=100, y1=1000),
        Qwen3VLBox(x0=100, y0=200, x1=100, y1=1000),
        Qwen3VLBox(x0=100, y0=200, x1=1001, y1=1000),
        Qwen3VLBox(x0=-1, y0=200, x1=600, y1=1000),
    ],
)
def test_what_is_no_box_is_an_error(raw: Qwen3VLBox) -> None:
    with pytest.raises(ValueError):
        Qwen3VL().decode(raw)


def test_extents_that_are_not_positive_or_leave_the_image_are_errors() -> None:
    for percent in (
        PercentBox(x=10, y=10, width=0, height=5),
        PercentBox(x=10, y=10, width=-5, height=5),
        PercentBox(x=95, y=10, width=5.1, height=5),
    ):
        with pytest.raises(ValueError):
            LabelStudio().decode(percent)
    with pytest.raises(ValueError):
        Coco(ImageSize(width=640, height=480)).decode(CocoBox(x=600, y=0, width=41, height=10))


def test_rounding_noise_at_the_border_is_forgiven() -> None:
    assert LabelStudio().decode(PercentBox(x=95, y=-0.00001, width=5.00001, height=5)) == Box(
        x0=950, y0=0, x1=1000, y1=50
    )


@pytest.mark.parametrize("numbers", [[1, 2, 3], [1, 2, 3, 4, 5], [math.nan, 2, 3, 4], [1, 2, math.inf, 4], []])
@pytest.mark.parametrize("codec", [Qwen3VL(), Gemini(), Qwen25VL(ImageSize(width=56, height=56))])
def test_reading_refuses_what_is_not_four_finite_numbers(
    codec: Qwen3VL | Gemini | Qwen25VL, numbers: list[float]
) -> None:
    with pytest.raises(ValueError):
        codec.read(numbers)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ((1024, 1024), (1036, 1036)),  # 36.57 patches
        ((28, 28), (56, 56)),  # up to the least area
        ((5, 5), (56, 56)),
        ((4000, 4000), (3584, 3584)),  # down to 16,384 patches, 128 a side
        ((42, 560), (56, 560)),  # 1.5 patches: halves go to the even one
        ((70, 560), (56, 560)),  # 2.5 as well
    ],
)
def test_smart_resize_by_hand(image: tuple[int, int], expected: tuple[int, int]) -> None:
    width, height = image
    resized = smart_resize(ImageSize(width=width, height=height))
    assert (resized.width, resized.height) == expected


@given(SIZES, st.integers(1, 400), st.integers(0, 2000))
def test_a_resized_image_keeps_the_promises(size: ImageSize, fewest: int, more: int) -> None:
    assume(ratio_allowed(size))
    resized = smart_resize(size, min_pixels=fewest * 784, max_pixels=(fewest + more) * 784)
    assert resized.width % 28 == resized.height % 28 == 0
    assert resized.width * resized.height >= min(fewest * 784, 784)


def test_smart_resize_refuses_what_the_model_does() -> None:
    with pytest.raises(ValueError, match="aspect ratio"):
        smart_resize(ImageSize(width=2010, height=10))
    with pytest.raises(ValueError, match="bounds"):
        smart_resize(ImageSize(width=100, height=100), min_pixels=10_000, max_pixels=5_000)


def test_smart_resize_is_the_one_in_transformers() -> None:
    module = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")

    @settings(max_examples=500)
    @given(SIZES, st.integers(1, 200_000), st.integers(0, 3_000_000))
    def agree(size: ImageSize, fewest: int, more: int) -> None:
        assume(ratio_allowed(size))
        height, width = module.smart_resize(size.height, size.width, 28, fewest, fewest + more)
        resized = smart_resize(size, min_pixels=fewest, max_pixels=fewest + more)
        assert (resized.width, resized.height) == (width, height)

    agree()
