"""Near pairs within one set, against comparing everything with everything."""

import io
import random

import numpy as np
from PIL import Image, ImageDraw

from sdg_data.ingest.near_duplicates import alike, near_pairs, thumbnail


def test_near_pairs_are_those_of_the_slow_way() -> None:
    rng = random.Random(2)
    hashes: dict[str, int] = {}
    for n in range(120):
        base = rng.getrandbits(64)
        hashes[f"a{n}"] = base
        for copy in range(rng.randint(0, 3)):
            flipped = base
            for bit in rng.sample(range(64), rng.randint(0, 7)):
                flipped ^= 1 << bit
            hashes[f"a{n}-{copy}"] = flipped
    keys = sorted(hashes)
    slow = [(a, b) for i, a in enumerate(keys) for b in keys[i + 1 :] if (hashes[a] ^ hashes[b]).bit_count() <= 4]
    assert near_pairs(hashes) == slow
    assert len(slow) > 50
    assert near_pairs({}) == []
    assert len(near_pairs(hashes, limit=5)) == 5


def drawn(ground: tuple[int, int, int], *things: tuple[tuple[int, int, int, int], tuple[int, int, int]]) -> Image.Image:
    """A plain ground with rectangles on it, and a little noise, as models make them."""
    image = Image.new("RGB", (64, 64), ground)
    for place, colour in things:
        ImageDraw.Draw(image).rectangle(place, fill=colour)
    noise = np.random.default_rng(sum(ground)).integers(-2, 3, (64, 64, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def test_copies_are_alike_and_other_things_on_a_plain_ground_are_not() -> None:
    picture = drawn((190, 217, 247), ((10, 20, 24, 34), (130, 30, 180)))
    copies = {
        "saved again": encoded(picture, "JPEG", quality=40),
        "larger": encoded(picture.resize((200, 200))),
        "lighter": encoded(picture.point(lambda value: min(255, int(value * 1.1)))),
        "without colours": encoded(picture.convert("L")),
    }
    others = {
        "another place": drawn((190, 217, 247), ((40, 20, 54, 34), (130, 30, 180))),
        "another colour": drawn((190, 217, 247), ((10, 20, 24, 34), (240, 210, 20))),
        "one more": drawn((190, 217, 247), ((10, 20, 24, 34), (130, 30, 180)), ((40, 40, 52, 52), (30, 160, 60))),
        "nothing": drawn((190, 217, 247)),
        "nothing, grey": drawn((190, 190, 190)),
    }
    own = thumbnail(encoded(picture))
    assert len(own) == 8 * 8 * 3
    for name, copy in copies.items():
        assert alike(own, thumbnail(copy)), name
    for name, other in others.items():
        assert not alike(own, thumbnail(encoded(other))), name
    flat, same, paler = (thumbnail(encoded(Image.new("RGB", (9, 9), (v, v, v)))) for v in (80, 80, 90))
    assert alike(flat, same)
    assert not alike(flat, paler)
    assert not alike(own, b"")
