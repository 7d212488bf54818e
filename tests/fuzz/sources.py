"""Makes odd sources and imports them: `python -m tests.fuzz.sources --count 20000 --seed 1`.

Every source is made from (seed, number) alone, so `--only NUMBER` gives it again, and `--keep` leaves it on the disk.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.fuzz import archives, coco_files, folders, release_files, richhf_files, shard_files, tables, tool_files
from tests.fuzz.checks import problems_of, stored_by_source
from tests.fuzz.running import Homes, Outcome, built_once, kept_open, peak_megabytes, sdg
from tests.fuzz.source import Source

Maker = Callable[[Random, int, Path], Source]
FAMILIES: dict[str, tuple[Maker, int]] = {
    "archive": (archives.make, 22),
    "folder": (folders.make, 22),
    "table": (tables.make, 20),
    "coco": (coco_files.make, 20),
    "release": (release_files.make, 8),
    "richhf": (richhf_files.make, 6),
    "shards": (shard_files.make, 2),
    "tool": (tool_files.make, 5),
}
"""By name: what makes a source, and how many of a hundred are such."""
STORE_SOURCES = 100
"""So many sources go into one store."""
SHOWN = 3
"""So many problems of a source are said."""


@dataclass
class Result:
    """What came of a run."""

    sources: int = 0
    items: int = 0
    by_family: Counter[str] = field(default_factory=Counter)
    by_code: Counter[str] = field(default_factory=Counter)
    exits: Counter[int] = field(default_factory=Counter)
    taken: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def make_source(seed: int, number: int, folder: Path, families: list[str] | None = None) -> Source:
    """The source `number` of `seed`."""
    rng = Random(f"{seed}/{number}")
    names = families or list(FAMILIES)
    family = rng.choices(names, [FAMILIES[name][1] for name in names])[0]
    return FAMILIES[family][0](rng, number, folder / f"s{number}")


def fuzz(
    numbers: list[int],
    seed: int,
    folder: Path,
    *,
    families: list[str] | None = None,
    keep: bool = False,
    say: Callable[[str], None] = print,
) -> Result:
    """Import the sources, and check what came of them."""
    result, start = Result(), time.monotonic()
    homes = Homes(folder)
    places = folder / "sources"
    for first in range(0, len(numbers), STORE_SOURCES):
        home = homes.make()
        sources = [make_source(seed, number, places, families) for number in numbers[first : first + STORE_SOURCES]]
        with built_once():
            for failure in _batch(homes, home, sources, result):
                result.failures.append(failure)
                say(failure)
        if not keep:
            shutil.rmtree(home, ignore_errors=True)
            shutil.rmtree(places, ignore_errors=True)
    result.seconds = time.monotonic() - start
    return result


def _batch(homes: Homes, home: Path, sources: list[Source], result: Result) -> Iterator[str]:
    together = [source for source in sources if source.named]
    outcomes = {}
    with kept_open(home):
        for source in together:
            outcomes[source.number] = _import(home, source)
    stored = stored_by_source(home)
    for source in together:
        rows = [row for name in (f"imported:{source.name}", source.name) for row in stored.get(name, [])]
        yield from _failures(
            source, outcomes[source.number], problems_of(source, outcomes[source.number], rows), result
        )
    yield from _of_store(home, sources)
    with kept_open(home):
        yield from _again(home, together[:: max(1, len(together) // 4)], outcomes)
    for source in sources:
        if not source.named:
            own = homes.make()
            outcome = _import(own, source)
            rows = [row for name, those in stored_by_source(own).items() if name != "file:first.txt" for row in those]
            yield from _failures(source, outcome, problems_of(source, outcome, rows), result)
            yield from _of_store(own, [source])
            yield from _hostile(homes, source)
            shutil.rmtree(own, ignore_errors=True)


def _import(home: Path, source: Source) -> Outcome:
    named = ["--source", source.name] if source.named else []
    return sdg(home, [*source.arguments, *named], report=home / "report.json")


def _failures(source: Source, outcome: Outcome, problems: list[str], result: Result) -> Iterator[str]:
    result.sources += 1
    result.items += len(source.items)
    result.by_family[source.family] += 1
    result.exits[outcome.code] += 1
    if outcome.source is not None:
        for totals in outcome.source["totals"].values():
            result.taken += totals["taken"]
            result.refused += totals["refused"]
            result.by_code.update(totals["refused_by_code"])
    for problem in problems[:SHOWN]:
        yield f"{source.number} {source.family} {source.odd}: {problem}"
    if len(problems) > SHOWN:
        yield f"{source.number} {source.family}: … and {len(problems) - SHOWN} more"


def _of_store(home: Path, sources: list[Source]) -> Iterator[str]:
    """The store opens, has a digest, and what it holds can be exported."""
    numbers = [source.number for source in sources]
    for command in (["store", "digest"], ["store", "check"], ["export", "run", "--no-phash"]):
        outcome = sdg(home, command)
        empty = outcome.code == 4 and command[0] == "export"  # nothing is selected
        if outcome.raised is not None or (outcome.code != 0 and not empty):
            yield f"{numbers} {' '.join(command)}: exit {outcome.code} {outcome.raised or outcome.stderr[-500:]}"


def _again(home: Path, sources: list[Source], first: dict[int, Outcome]) -> Iterator[str]:
    """A source that is imported again changes nothing, and its account is the same."""
    before = sdg(home, ["store", "digest"]).stdout
    for source in sources:
        outcome, earlier = _import(home, source), first[source.number]
        if outcome.raised or outcome.source is None or earlier.source is None:
            if outcome.code != earlier.code:
                said = f"exit {outcome.code} after {earlier.code} {outcome.raised or ''}"
                yield f"{source.number} {source.family} {source.odd}: again: {said}"
            continue
        for unit, totals in outcome.source["totals"].items():
            old = earlier.source["totals"].get(unit, {})
            if (
                totals["taken"]
                or totals["seen"] != old.get("seen")
                or totals["refused_by_code"] != old.get("refused_by_code")
            ):
                yield f"{source.number} {source.family} {source.odd}: again: {unit} {totals} after {old}"
    after = sdg(home, ["store", "digest"]).stdout
    if before != after:
        yield f"{[source.number for source in sources]} imported again: another digest"


def _hostile(homes: Homes, source: Source) -> Iterator[str]:
    """An altered copy of a store's export changes none of the gold of that store."""
    home = homes.make()
    shutil.rmtree(home)
    shutil.copytree(shard_files.original(source.folder.parent.parent), home)
    before = sdg(home, ["export", "run", "--dry-run", "--json"]).stdout, _gold(home)
    outcome = _import(home, source)
    if outcome.raised is not None:
        yield f"{source.number} shards {source.odd}: into the original: {outcome.raised}"
    elif _gold(home) != before[1]:
        yield f"{source.number} shards {source.odd}: the gold of the store is another (exit {outcome.code})"
    shutil.rmtree(home, ignore_errors=True)


def _gold(home: Path) -> list[tuple[str, ...]]:
    from sdg_data.store import gold, images
    from sdg_data.store.connection import Store

    with Store(home).read() as tx:
        own = {image.id for image in images.page(tx, limit=10**6)}
        rule = gold.GoldRule(unreviewed=True, prelabels_of="vlm")
        return sorted(
            (label.image_id, str(label.defects), str(label.source))
            for label in gold.page(tx, rule)
            if label.image_id in own
        )


def main() -> int:
    """Returns 1 where anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="so many sources")
    parser.add_argument("--first", type=int, default=0, help="the first one's number")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, action="append", help="this source alone (may be given again)")
    parser.add_argument("--family", action="append", choices=sorted(FAMILIES), help="only such (may be given again)")
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave all of it there")
    options = parser.parse_args()
    numbers = options.only or list(range(options.first, options.first + options.count))
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        dir=shared if os.access(shared, os.W_OK) else None, prefix="sdg-fuzz-"
    ) as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = fuzz(numbers, options.seed, folder, families=options.family, keep=options.keep is not None)
    print(f"{result.sources} sources, {result.items} items, {result.seconds:.0f} s, {peak_megabytes()} MB at most")
    print(f"families {dict(result.by_family)}; exits {dict(sorted(result.exits.items()))}")
    print(f"{result.taken} taken, {result.refused} refused: {dict(result.by_code.most_common())}")
    print(f"{len(result.failures)} failures")
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
