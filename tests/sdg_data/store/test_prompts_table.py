"""The prompts table."""

from collections.abc import Callable

from schemas.records import Prompt, Split
from sdg_data.store import prompts
from sdg_data.store.connection import Store


def test_a_prompt_that_is_there_keeps_what_was_said_first(store: Store, make_prompt: Callable[..., Prompt]) -> None:
    first, other = make_prompt("a cat", source="one", licence="MIT"), make_prompt("a cat", source="two")
    with store.write() as tx:
        assert prompts.insert(tx, [first, other]) == 1
        assert prompts.insert(tx, [other]) == 0
        assert prompts.by_ids(tx, [first.id, "0" * 32]) == {first.id: first}


def test_pages_filters_and_counts(store: Store, make_prompt: Callable[..., Prompt]) -> None:
    rows = [make_prompt(f"prompt {n}", source="even" if n % 2 == 0 else "odd") for n in range(20)]
    with store.write() as tx:
        assert prompts.insert(tx, rows) == 20
    in_order = sorted(rows, key=lambda row: row.id)
    with store.read() as tx:
        first = prompts.page(tx, limit=7)
        assert first + prompts.page(tx, after=first[-1].id) == in_order
        assert prompts.page(tx, source="odd") == [row for row in in_order if row.source == "odd"]
        for split in Split:
            chosen = [row for row in in_order if row.split is split]
            assert prompts.page(tx, split=split) == chosen
            assert prompts.count(tx, split=split) == len(chosen)
        statistics = prompts.statistics(tx)
    assert sum(row["prompts"] for row in statistics) == 20  # type: ignore[misc]
    assert {(row["source"], row["split"]) for row in statistics} == {(row.source, row.split) for row in rows}
    assert {row["shortest"] for row in statistics} == {len("prompt 1")}
