"""Near pairs within one set, against comparing everything with everything."""

import random

from sdg_data.ingest.near_duplicates import near_pairs


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
