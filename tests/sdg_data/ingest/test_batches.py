"""Lists of a source's items, bounded in number and bytes."""

from hypothesis import given
from hypothesis import strategies as st

from sdg_data.ingest.batches import batched


@given(st.lists(st.integers(0, 12)), st.integers(1, 5), st.integers(1, 20))
def test_every_item_is_in_one_list_and_no_list_could_have_ended_before(sizes: list[int], most: int, room: int) -> None:
    lists = list(batched(sizes, lambda size: size, most=most, most_bytes=room))
    assert [size for batch in lists for size in batch] == sizes
    assert all(0 < len(batch) <= most and sum(batch[:-1]) < room for batch in lists)
    assert all(len(batch) == most or sum(batch) >= room for batch in lists[:-1])
