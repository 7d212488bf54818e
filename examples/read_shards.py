"""Read an export's shards in a loop of your own: pixels, prompt, defects, and a checkpoint of where you are.

    python examples/read_shards.py data/demo/exports/demo

Shards are plain WebDataset too, so `webdataset` and `datasets` read them as well (docs/exports.md).
"""

import json
import sys
from collections import Counter

from exports.read import ShardReader


def main(export: str, split: str = "train") -> None:
    """Print one line for each of the first samples, and counts of all of them."""
    reader = ShardReader(export, split=split, seed=0, decode="numpy")
    counts: Counter[str] = Counter()
    for number, example in enumerate(reader):  # one pass is an epoch, each in another order
        height, width, _ = example.image.shape  # uint8, RGB
        sample = example.sample
        counts["images"] += 1
        counts.update(defect.type.value for defect in sample.plain_defects)
        if number < 3:
            print(f"{sample.key[:8]}  {width}x{height}  {sample.model}  {sample.prompt!r}")
            for defect in sample.plain_defects:
                # Boxes are thousandths of the image; `to_pixels` gives corners in pixels.
                box = defect.box
                print(f"    {defect.type.value} {box.x0, box.y0, box.x1, box.y1} {defect.importance}: {defect.reason}")
        if number == 1:
            state = json.dumps(reader.state_dict())  # put it beside your checkpoint
    print(dict(counts))

    resumed = ShardReader(export, split=split, seed=0, decode="numpy")
    resumed.load_state_dict(json.loads(state))  # goes on at the very next sample
    print("after the second sample comes", next(iter(resumed)).key[:8])


if __name__ == "__main__":
    main(*sys.argv[1:])
