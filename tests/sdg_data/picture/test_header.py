"""What a header says, without decoding: kind, size as seen, frames, rules, and what is refused by which code."""

import struct

import pytest
from PIL import Image

from sdg_data.picture import DAMAGED, MOST_PIXELS, TOO_LARGE, UNSUPPORTED, PictureError, read_header
from tests.sdg_data.picture import icc, pngs
from tests.sdg_data.picture.cases import CASES, exif_of, saved, scene

IMAGE = Image.fromarray(scene())


def code_of(data: bytes) -> str:
    with pytest.raises(PictureError) as caught:
        read_header(data)
    return caught.value.code


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("PNG RGB", ()),
        ("PNG L", ()),
        ("PNG P", ()),
        ("PNG 1", ()),
        ("PNG I;16", ("depth",)),
        ("PNG RGBA", ("transparency",)),
        ("PNG P with transparency", ("transparency",)),
        ("PNG RGB of 16 bits with a transparent colour", ("depth", "transparency")),
        ("PNG, animated", ("frames",)),
        ("PNG with sRGB's own profile", ()),
        ("PNG in Display P3", ("colour",)),
        ("PNG with a gamma", ("colour",)),
        ("PNG 3", ("orientation",)),
        ("JPEG YCbCr", ()),
        ("JPEG grey", ()),
        ("JPEG of a phone (MPO)", ()),
        ("JPEG CMYK", ("colour",)),
        ("JPEG in Display P3, lying", ("orientation", "colour")),
        ("WebP", ()),
        ("WebP with transparency", ("transparency",)),
        ("WebP, animated", ("frames",)),
    ],
)
def test_rules(name: str, rules: tuple[str, ...]) -> None:
    header = read_header(CASES[name].data)
    assert header.rules == rules
    assert header.plain is (not rules)


def test_frames() -> None:
    frames = {name: read_header(CASES[name].data).frames for name in CASES}
    assert {name: count for name, count in frames.items() if count != 1} == {
        "JPEG of a phone (MPO)": 2,
        "WebP, animated": 2,
        "PNG, animated": 2,
    }


def test_sizes_are_as_stored_and_as_seen() -> None:
    header = read_header(CASES["JPEG 6"].data)
    assert (header.stored_width, header.stored_height) == (40, 24)
    assert (header.width, header.height, header.orientation) == (24, 40, 6)


def test_an_orientation_that_is_none_turns_nothing() -> None:
    for orientation in (0, 9, 1000):
        header = read_header(saved(IMAGE, "JPEG", exif=exif_of(orientation)))
        assert (header.orientation, header.plain) == (1, True)
    tiff = b"MM\0*" + struct.pack(">IH", 8, 1) + struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    for cut in range(len(tiff)):
        assert read_header(pngs.with_chunk(CASES["PNG RGB"].data, b"eXIf", tiff[:cut])).orientation == 1
    assert read_header(pngs.with_chunk(CASES["PNG RGB"].data, b"eXIf", tiff)).orientation == 6


def test_xmp_says_nothing() -> None:
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    for kind in ("JPEG", "WEBP", "PNG"):
        data = (
            pngs.with_chunk(CASES["PNG RGB"].data, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
            if kind == "PNG"
            else saved(IMAGE, kind, xmp=xmp)
        )
        assert read_header(data).plain


def test_chunks_that_browsers_stumble_over_are_not_plain() -> None:
    data = CASES["PNG RGB"].data
    for name, rule in ((b"fcTL", "frames"), (b"fdAT", "frames"), (b"CgBI", "coding"), (b"ABCD", "coding")):
        assert read_header(pngs.with_chunk(data, name, bytes(26))).rules == (rule,)
    samples = data.index(b"IDAT") - 4
    parted = data[:samples] + pngs.chunk(b"IDAT", data[samples + 8 : samples + 40]) + pngs.chunk(b"tEXt", b"a\0b")
    parted += pngs.chunk(b"IDAT", data[samples + 40 : -16]) + data[-12:]
    assert read_header(parted).rules == ("coding",)
    for name in (b"tEXt", b"pHYs", b"tIME", b"sBIT", b"bKGD", b"vpAg"):
        assert read_header(pngs.with_chunk(data, name, bytes(9))).plain


def test_a_size_stated_beside_the_true_one_is_not_plain() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0xA002: 20, 0xA003: 12})
    assert read_header(saved(IMAGE, "JPEG", exif=exif)).rules == ("size",)
    exif.get_ifd(0x8769).update({0xA002: 40, 0xA003: 24})
    assert read_header(saved(IMAGE, "JPEG", exif=exif)).plain


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "AVIF", "ICO", "PPM", "JPEG2000", "PCX"])
def test_other_formats_are_refused(kind: str) -> None:
    code = code_of(saved(IMAGE, kind))
    assert code == (DAMAGED if kind == "PCX" else UNSUPPORTED)  # PCX has no signature to know it by


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\xef\xbb\xbf <!DOCTYPE html><p>404", "HTML"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "HEIC"),
        (b"\xff\x0a" + bytes(9), "JPEG XL"),
        (b"8BPS\0\1", "PSD"),
    ],
)
def test_refused_formats_are_named(data: bytes, name: str) -> None:
    with pytest.raises(PictureError, match=name):
        read_header(data)


def test_what_is_no_picture() -> None:
    for data in (b"", b"hello", bytes(100), b"\x89PNG", b"\xff\xd8\xff", b"RIFF\4\0\0\0WEBP"):
        assert code_of(data) == DAMAGED


def test_kinds_that_nothing_decodes_are_refused_by_name() -> None:
    jpeg = CASES["JPEG YCbCr"].data
    frame = jpeg.index(b"\xff\xc0")
    assert code_of(jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :]) == UNSUPPORTED  # 12 bits
    assert code_of(jpeg[: frame + 9] + b"\2" + jpeg[frame + 10 :]) == UNSUPPORTED  # two components
    assert code_of(pngs.with_chunk(CASES["PNG RGB"].data, b"cICP", bytes([9, 16, 0, 1]))) == UNSUPPORTED  # HDR


def test_a_bound_on_pixels_is_kept_before_anything_is_decoded() -> None:
    data = CASES["PNG RGB"].data
    for width, height in ((60_000, 60_000), (MOST_PIXELS + 1, 1)):
        header = struct.pack(">II", width, height) + data[24:29]
        assert code_of(data[:8] + pngs.chunk(b"IHDR", header) + data[33:]) == TOO_LARGE
    at_most = struct.pack(">II", MOST_PIXELS, 1) + data[24:29]
    assert read_header(data[:8] + pngs.chunk(b"IHDR", at_most) + data[33:]).width == MOST_PIXELS
    for width, height in ((0, 5), (5, 0)):
        header = struct.pack(">II", width, height) + data[24:29]
        assert code_of(data[:8] + pngs.chunk(b"IHDR", header) + data[33:]) == DAMAGED


def test_a_profile_of_other_colours_or_a_broken_one_counts_as_none() -> None:
    for profile in (icc.grey_profile(1.0), b"no profile at all", icc.matrix_profile(icc.ADOBE_RGB, (2.2,))[:200]):
        assert read_header(saved(IMAGE, "PNG", icc_profile=profile)).plain
