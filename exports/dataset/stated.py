"""Samples of outside records under the ids that their source stated, so that an export of an import is equal to it."""

from collections.abc import Sequence

from schemas.base import Record
from schemas.sample import Sample
from sdg_data.store import stated_ids
from sdg_data.store.connection import Tx

_IDS = ("id", "prelabel_id", "parent_id", "annotation_id", "result_id")
_LINKS = ("prelabel", "annotation", "review", "enrichment")


def with_stated_ids(tx: Tx, samples: Sequence[Sample]) -> list[Sample]:
    """The samples, the ids in their lineage replaced where their source called a record otherwise.

    Args:
        tx: A transaction that looks.
        samples: As they were made from the store's records.

    Returns:
        As many, in the same order.
    """
    ids = {identity for sample in samples for link in _links(sample).values() for identity in _ids(link).values()}
    stated = stated_ids.of_items(tx, ids)
    if not stated:
        return list(samples)
    return [_restated(sample, stated) for sample in samples]


def _restated(sample: Sample, stated: dict[str, str]) -> Sample:
    changed = {
        name: link.model_copy(update={key: stated.get(identity, identity) for key, identity in _ids(link).items()})
        for name, link in _links(sample).items()
    }
    return sample.model_copy(update={"lineage": sample.lineage.model_copy(update=changed)})


def _links(sample: Sample) -> dict[str, Record]:
    links = {name: getattr(sample.lineage, name) for name in _LINKS}
    return {name: link for name, link in links.items() if link is not None}


def _ids(link: Record) -> dict[str, str]:
    values = {key: getattr(link, key, None) for key in _IDS}
    return {key: value for key, value in values.items() if value is not None}
