"""The pixels of every kind of file, against numpy; the same from both decoders."""

import zlib
from unittest.mock import patch

import numpy as np
import pytest

from sdg_data import picture
from sdg_data.picture import PictureError, decode, decode_image, decode_pixels, for_browser, read_header
from tests.sdg_data.picture import pngs
from tests.sdg_data.picture.cases import CASES, Case, scene


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_picture_is_what_a_person_sees(case: Case) -> None:
    header = picture.measure(case.data)
    assert (header.media_type, header.height, header.width) == (case.media_type, *case.shown.shape[:2])
    pixels = decode_pixels(case.data)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - case.shown).max() <= case.within
    image = decode_image(case.data)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), pixels)
    with patch.object(decode, "_pyspng", return_value=None):
        assert np.array_equal(decode_pixels(case.data), pixels)


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_browser_is_given_the_picture(case: Case) -> None:
    media_type, data = for_browser(case.data)
    assert read_header(data).plain
    assert np.array_equal(decode_pixels(data), decode_pixels(case.data))
    if read_header(case.data).plain:
        assert data == case.data
        assert media_type == case.media_type
    else:
        assert media_type == "image/png"


def test_pyspng_is_asked_for_plain_png_only() -> None:
    class Refusing:
        @staticmethod
        def load(data: bytes, format: str) -> None:
            raise RuntimeError("it was asked")

    with patch.object(decode, "_pyspng", return_value=Refusing):
        with pytest.raises(PictureError, match="it was asked"):
            decode_pixels(CASES["PNG RGB"].data)
        for name in ("PNG I;16", "PNG 6", "PNG RGBA", "PNG in Display P3", "PNG P with transparency", "WebP"):
            decode_pixels(CASES[name].data)


@pytest.mark.parametrize("pyspng", [True, False], ids=["pyspng", "Pillow"])
def test_damage_is_found_by_either_decoder(pyspng: bool) -> None:
    data = CASES["PNG RGB"].data
    place = data.index(b"IDAT")
    bad = {
        "a wrong sum": data[: place + 10] + bytes([data[place + 10] ^ 1]) + data[place + 11 :],
        "cut in the samples": data[: place + 30],
        "without its end": data[:-12],
        "too few rows": data[:8] + pngs.chunk(b"IHDR", data[16:20] + b"\0\0\1\0" + data[24:29]) + data[33:],
        "no palette": pngs.png(scene(1, 15)[..., 0], pngs.PALETTE, 4),
        "no samples": data[: place - 4] + data[-12:],
        "a wrong sum behind whole samples": data[:-16] + bytes([data[-16] ^ 1]) + data[-15:],
        "a wrong sum of the header": data[:29] + bytes([data[29] ^ 1]) + data[30:],
        "another way of interlacing": data[:8] + pngs.chunk(b"IHDR", data[16:28] + b"\2") + data[33:],
        "two headers": pngs.with_chunk(data, b"IHDR", data[16:29]),
    }
    with patch.object(decode, "_pyspng", decode._pyspng if pyspng else lambda: None):
        for name, broken in bad.items():
            with pytest.raises(PictureError) as caught:
                decode_pixels(broken)
            assert caught.value.code == ("unsupported-format" if "another way" in name else "undecodable"), name


@pytest.mark.parametrize("pyspng", [True, False], ids=["pyspng", "Pillow"])
def test_damaged_metadata_does_no_harm(pyspng: bool) -> None:
    data, name = CASES["PNG RGB"].data, b"tEXtComment\0x"
    wrong_sum = (len(name) - 4).to_bytes(4, "big") + name + bytes(4)
    large = pngs.with_chunk(data, b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3 << 20)))
    with patch.object(decode, "_pyspng", decode._pyspng if pyspng else lambda: None):
        for odd in (data[:33] + wrong_sum + data[33:], large, pngs.with_chunk(data, b"iCCP", b"x\0\0not zlib")):
            assert np.array_equal(decode_pixels(odd), scene())


def test_palettes_that_only_some_decoders_read_are_not_plain() -> None:
    samples = scene(1, 15)[..., 0]
    colours = np.arange(48, dtype=np.uint8)
    for odd in (np.arange(60, dtype=np.uint8), colours[:47]):
        data = pngs.png(samples, pngs.PALETTE, 4, before=((b"PLTE", odd.tobytes()),))
        assert read_header(data).rules == ("coding",)
        shown = decode_pixels(data)
        inside = samples < 15
        assert np.array_equal(shown[inside], colours.reshape(16, 3)[samples[inside]])
    short = pngs.png(samples, pngs.PALETTE, 4, before=((b"PLTE", colours[:9].tobytes()),))
    assert np.array_equal(decode_pixels(short)[samples >= 3], np.zeros((np.sum(samples >= 3), 3)))  # as in browsers


def test_a_cut_file_never_gives_a_picture() -> None:
    for name in ("PNG RGB", "PNG I;16", "JPEG YCbCr", "JPEG progressive", "WebP", "WebP, animated"):
        data = CASES[name].data
        for end in range(0, len(data) - 2, max(1, len(data) // 60)):
            with pytest.raises(PictureError):
                picture.measure(data[:end])


def test_a_transparent_colour_that_says_nothing_sensible_is_none() -> None:
    for content in (b"", b"\0\1", bytes(5), bytes(600)):
        assert np.array_equal(decode_pixels(pngs.with_chunk(CASES["PNG RGB"].data, b"tRNS", content)), scene())
    late = pngs.png(scene(), pngs.RGB, 8, after=((b"tRNS", scene()[5, 6].astype(">u2").tobytes()),))
    assert np.array_equal(decode_pixels(late), scene())
