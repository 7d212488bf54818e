"""The pages' SQL against loops over the records that the store was made from."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("gradio")

from schemas.defect import Defect, tier
from schemas.labelling import LabelTask
from schemas.records import Annotation
from sdg_data.dashboard import aggregates
from sdg_data.dashboard.pages import agreement, overview
from sdg_data.dashboard.pages.browse.queries import CLEAN, ImageFilter, by_numbers, choices, count, image_detail, page
from sdg_data.dashboard.pages.health import queries as health
from sdg_data.dashboard.snapshots import Snapshots
from sdg_data.store import labelling
from sdg_data.store.connection import Store
from sdg_data.store.labelling import ServerIds
from tests.sdg_data.dashboard.conftest import HOSTILE, LONG, Filled
from tests.sdg_data.store.makers import at


def speaker(filled: Filled, image: str) -> tuple[str | None, Sequence[Defect]]:
    """Whose defects count for an image, by the rule's words."""
    mine = [one for one in filled.annotations if one.image_id == image]
    verdicts = {one.annotation_id: one.verdict for one in filled.reviews}

    def last(of: list[Annotation]) -> Annotation:
        return max(of, key=lambda one: one.created_at)

    accepted = [one for one in mine if verdicts.get(one.id) == "accepted"]
    if accepted:
        return "gold", [item.defect for item in last(accepted).defects]
    waiting = [one for one in mine if one.id not in verdicts]
    if waiting:
        return "people", [item.defect for item in last(waiting).defects]
    machine = [one for one in filled.prelabels if one.image_id == image]
    if machine:
        return "detector", max(machine, key=lambda one: one.created_at).defects
    return None, ()


def everything(filled: Filled) -> dict[str, tuple[str | None, Sequence[Defect]]]:
    return {image.id: speaker(filled, image.id) for image in filled.images if image.id != filled.gone}


def naive(filled: Filled, wanted: ImageFilter) -> list[str]:
    texts = {prompt.id: prompt for prompt in filled.prompts}
    found = []
    for image in filled.images:
        if image.id == filled.gone:
            continue
        said, defects = speaker(filled, image.id)
        prompt = texts[image.prompt_id]
        fits = [
            one
            for one in defects
            if wanted.type in ("", one.type)
            and wanted.subtype in ("", one.subtype)
            and wanted.tier in ("", tier(one.importance))
        ]
        words, clean = wanted.text.lower(), said is not None and not defects
        if (
            wanted.model in ("", image.model)
            and wanted.split in ("", prompt.split)
            and (not (wanted.type or wanted.subtype or wanted.tier) or fits or (wanted.type == CLEAN and clean))
            and (words in prompt.text.lower() or any(words in one.reason.lower() for one in defects))
        ):
            found.append(image.id)
    return found


@pytest.mark.parametrize(
    "wanted",
    [
        ImageFilter(),
        ImageFilter(model="sana"),
        ImageFilter(split="test", model="flux2"),
        ImageFilter(type="artifact"),
        ImageFilter(type="misalignment", tier="minor"),
        ImageFilter(type=CLEAN),
        ImageFilter(subtype="style"),
        ImageFilter(tier="critical"),
        ImageFilter(text="  HAND   melts "),
        ImageFilter(text="thing 1", type="artifact"),
        ImageFilter(text="100% _"),
        ImageFilter(text="<script>"),
    ],
)
def test_filters(snapshots: Snapshots, filled: Filled, wanted: ImageFilter) -> None:
    plain = ImageFilter(**{**vars(wanted), "text": " ".join(wanted.text.split())})
    expected = naive(filled, plain)
    with snapshots.read() as tx:
        assert tx is not None
        assert count(tx, wanted) == len(expected)
        found: list[str] = []
        while rows := page(tx, wanted, len(found) // 7, 7):
            found += [row["image_id"] for row in rows]
            if len(rows) < 7:
                break
    assert found == expected


def test_states_are_parted_and_whoever_speaks_is_right(snapshots: Snapshots, filled: Filled) -> None:
    with snapshots.read() as tx:
        assert tx is not None
        rows = {row["image_id"]: row for row in page(tx, ImageFilter(), 0, 1000)}
        by_state = {
            state: count(tx, ImageFilter(state=state))
            for state in ("accepted", "annotated", "rejected", "prelabelled", "new")
        }
        assert choices(tx)["model"] == ["flux2", "sana"]
        assert by_numbers(tx, []) == []
    expected = everything(filled)
    assert sum(by_state.values()) == len(expected) == len(rows)
    assert by_state["new"] == 1
    for image, (said, defects) in expected.items():
        row = rows[image]
        kinds = Counter(one.type for one in defects)
        assert (row["said"], row["artifacts"], row["misalignments"]) == (said, kinds["artifact"], kinds["misalignment"])
        assert row["worst"] == max((one.importance for one in defects), default=None)
        assert {"gold": "accepted", "people": "annotated", None: "new"}.get(said, row["state"]) == row["state"]


def test_overview(snapshots: Snapshots, filled: Filled) -> None:
    spoken = [(image, said, defects) for image, (said, defects) in everything(filled).items()]
    models = {image.id: image.model for image in filled.images}
    with snapshots.read() as tx:
        assert tx is not None
        assert overview.label_sources(tx) == ["gold", "people", "detector"]
        for said in ("gold", "people", "detector"):
            mine = [(image, defects) for image, who, defects in spoken if who == said]
            kinds = [frozenset(one.type for one in defects) for _, defects in mine]
            shares = {row["composition"]: row["images"] for row in overview.composition(tx, said)}
            assert shares == {
                "clean": kinds.count(frozenset()),
                "artifact only": kinds.count(frozenset({"artifact"})),  # type: ignore[arg-type]
                "misalignment only": kinds.count(frozenset({"misalignment"})),  # type: ignore[arg-type]
                "both": kinds.count(frozenset({"artifact", "misalignment"})),  # type: ignore[arg-type]
            }
            for row in overview.per_image(tx, said):
                here = [defects for image, defects in mine if models[image] == row["model"]]
                total = sum(one.type == "artifact" for defects in here for one in defects)
                assert row["artifact"] == pytest.approx(total / len(here))
            weights = Counter((one.type, (one.importance - 1) // 10) for _, defects in mine for one in defects)
            for place, row in enumerate(overview.importance(tx, said)):
                assert (row["artifact"], row["misalignment"]) == (
                    weights["artifact", place],  # type: ignore[index]
                    weights["misalignment", place],  # type: ignore[index]
                )
        done = {row["stage"]: (row["done"], row["total"], row["failed"]) for row in overview.progress(tx)}
        total = len(spoken)
        annotated = {one.image_id for one in filled.annotations} - {filled.gone}
        gold = sum(said == "gold" for _, said, _ in spoken)
        assert done["images"] == (total, total, 0)
        assert done["prelabelled"] == (total - 1, total, 1)
        assert done["annotated"] == (len(annotated), total, 0)
        assert done["accepted"] == (gold, len(annotated), 0)
        sums = overview.totals(tx)
        assert sums.gold_defects == sum(len(defects) for _, said, defects in spoken if said == "gold")
        alive = [one for one in filled.annotations if one.image_id != filled.gone]
        assert sums.hours == pytest.approx((130 * len(alive) + 20 * len(filled.reviews)) / 3600)
        assert sums.cost == pytest.approx(0.002 * len(filled.prelabels))
        assert overview.failures(tx) == [{"stage": "prelabel", "code": "not-json", "failures": 1, "items": 1}]
        people = {(row["who"], row["mode"]): row["items"] for row in overview.people(tx)}
        modes = Counter((one.annotator, "blind" if one.prelabel_id is None else "prelabelled") for one in alive)
        assert people == {**modes, ("rita", "review"): len(filled.reviews)}


def test_an_image_goes_back_to_the_seed(snapshots: Snapshots, filled: Filled) -> None:
    image = next(image for image in filled.images if image.prompt_id == filled.prompts[0].id)
    judged = next(one for one in filled.reviews if one.verdict == "accepted")
    owner = next(one for one in filled.annotations if one.id == judged.annotation_id)
    with snapshots.read() as tx:
        assert tx is not None
        detail = image_detail(tx, image.id)
        other = image_detail(tx, owner.image_id)
        assert image_detail(tx, filled.gone) is None
        assert image_detail(tx, "' OR 1=1 --") is None
    assert detail is not None
    assert other is not None
    facts = dict(detail.lineage)
    assert facts["prompt"] == HOSTILE
    assert facts["sample, seed"] == f"0, {image.seed}"
    assert facts["blob (sha256)"] == image.blob
    assert {one.reason for layer in detail.layers for one in layer.defects} >= {HOSTILE, LONG}
    assert ("evil<b> (eeeeeeee)", HOSTILE) in detail.raw
    assert other.layers[0].kind == "gold"
    assert list(other.layers[0].defects) == [item.defect for item in owner.defects]
    assert dict(other.lineage)[f"review {judged.id[:8]}"].startswith("accepted by rita, round 1")
    assert {layer.kind for layer in other.layers} == {"gold", "prelabel", "annotator"}


def test_health(snapshots: Snapshots, filled: Filled) -> None:
    alive = [image for image in filled.images if image.id != filled.gone]
    splits = {prompt.id: prompt.split for prompt in filled.prompts}
    owners: dict[str, list[str]] = {}
    for image in alive:
        owners.setdefault(image.blob, []).append(splits[image.prompt_id])
    with snapshots.read() as tx:
        assert tx is not None
        shared = {row["blob"]: (row["images"], row["splits"]) for row in health.same_bytes(tx)}
        assert shared == {blob: (len(s), len(set(s))) for blob, s in owners.items() if len(s) > 1}
        proof = health.split_leakage(tx)
        assert proof["shared_prompts"] == 0
        assert proof["shared_images"] == sum(len(set(s)) > 1 for s in owners.values())
        assert proof["test_prompts"] == sum(prompt.split == "test" for prompt in filled.prompts)
        assert health.withdrawn(tx) == [{"kind": "image", "reason": "asked for", "records": 1}]
        assert health.all_blobs(tx) == sorted(owners)
        train, test = health.prompts_of_both(tx)
        assert (len(train), len(test)) == (24, 6)


def test_what_agreement_and_evaluate_compute(snapshots: Snapshots, filled: Filled) -> None:
    with snapshots.read() as tx:
        assert tx is not None
        people = aggregates.people(tx)
        assert people is not None
        shared = Counter(one.image_id for one in filled.annotations if one.image_id != filled.gone)
        assert people.agreed.images == sum(number > 1 for number in shared.values())
        scores = [row["f1@0.5"] for row in agreement.queue(tx, people)]
        assert scores == sorted(scores)
        rows = {row["who"]: row for row in aggregates.annotators(tx)}
        assert set(rows) == {"ann0", "ann2", "ann1", "zed"}
        assert rows["ann0"]["artifact_F1_gold"] == 1
        assert rows["zed"]["shared_images"] == people.agreed.images
        bias = aggregates.blind_or_not(tx)
        assert bias is not None
        alive = [one for one in filled.annotations if one.image_id != filled.gone]
        assert bias.blind.annotations == sum(one.prelabel_id is None for one in alive)
        assert "annotator:zed" in aggregates.sources(tx)
        same = aggregates.compare(tx, "gold", "gold")
        assert same is not None
        assert same.document["boxes"]["0.5"]["all"]["f1"] == 1
        assert all(a == b for pairs in same.importance.values() for a, b in pairs)
        other = aggregates.compare(tx, "gold", "prelabel:vlm", model="flux2", split="train")
        assert other is not None
        assert set(other.document["breakdown"]["model"]) == {"flux2"}
        assert aggregates.compare(tx, "gold", "prelabel:vlm", model="sana") is None  # every other image is annotated
        assert aggregates.compare(tx, "gold", "prelabel:nobody") is None


def test_links_into_label_studio(tmp_path: Path) -> None:
    """The last pushed task of each image, under the server's numbers; what was never pushed has no link."""
    store = Store(tmp_path)
    one, two, three = ("1" * 32, "2" * 32, "3" * 32)
    with store.write() as tx:
        for place, (image, state) in enumerate(
            [(one, "pushed"), (one, "pushed"), (two, "intended"), (three, "pushed")]
        ):
            task = LabelTask(
                id=f"{place:032x}", project_id="a" * 32, image_id=image, prelabel_id=None, parent_id=None, blind=True,
                overlap=1, priority=0.0, state=state, created_at=at(place),
            )  # fmt: skip
            labelling.intend(tx, [task])
            if place != 3:
                labelling.confirm(tx, {task.id: 40 + place})
        labelling.set_on_server(tx, ServerIds(project_id="a" * 32, url="http://127.0.0.1:8085/", server_id=7))
        tx.execute("UPDATE label_tasks SET state = 'intended' WHERE image_id = ?", [two])
        found = agreement.label_studio_links(tx, [one, two, three])
    assert found == {one: "http://127.0.0.1:8085/projects/7/data?task=41"}
