"""What a machine is asked about an image whose model did not read all of its prompt."""

from pathlib import Path

from sdg_data.store import cut_prompts, images, prelabels
from sdg_data.store.connection import Store
from sdg_data.store.cut_prompts import CutPrompt
from sdg_data.store.prelabels import Prelabeller, WantedPrelabels
from tests.exports.worlds import fill


def test_a_machine_is_asked_about_the_part_that_was_read(tmp_path: Path) -> None:
    store: Store = fill(tmp_path / "home", 6)
    wanted = WantedPrelabels(Prelabeller(model="m", revision="r", template="t", settings="{}"))
    before = {item.image.id: item.prompt for page in prelabels.missing(store, wanted) for item in page}
    with store.write() as tx:
        first, *_ = images.page(tx)
        variant = images.Variant(first.model, first.revision, first.settings)
        cut_prompts.insert(tx, [CutPrompt(first.prompt_id, variant.id, 9, 40, 26)])
        same = {
            image.id for image in images.page(tx) if image.prompt_id == first.prompt_id and image.model == first.model
        }
    after = {item.image.id: item.prompt for page in prelabels.missing(store, wanted) for item in page}
    assert first.id in same
    assert after == {key: text[:9].rstrip() if key in same else text for key, text in before.items()}
    assert after[first.id] != before[first.id]


def test_a_prompt_of_which_nothing_is_known_to_be_read_stands_whole() -> None:
    assert cut_prompts.read_part("a red barn", None) == "a red barn"
    assert cut_prompts.read_part("a red barn", CutPrompt("p", "v", 0, 40, 26)) == "a red barn"
