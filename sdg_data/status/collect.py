"""What a home holds, what failed in it and what runs on it, as of now."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exports.files.manifest import MANIFEST, read_manifest
from exports.files.target import Target
from schemas.labelling import ProjectKind
from schemas.records import Withdrawn
from sdg_data.errors import SdgError
from sdg_data.locks import Holder, note_path, running
from sdg_data.progress import Note, read_note
from sdg_data.settings import Settings
from sdg_data.store import imports, labelling, prelabels, review_cases, tombstones
from sdg_data.store.connection import Store, Tx
from sdg_data.store.rows import select

_ALIVE = tombstones.alive(Withdrawn.IMAGE, "images.id")


@dataclass(frozen=True)
class Export:
    """An export under the home. `problem`: why its manifest cannot be read; None where it can."""

    name: str
    format: str
    samples: int
    problem: str | None = None


@dataclass(frozen=True)
class Status:
    """The state of a home: what is there, what is missing, and the next commands.

    Attributes:
        home: The folder.
        store: Whether there is a store; without one everything else is empty.
        prompts: Split -> prompts.
        images: Generator -> images that were not withdrawn.
        missing_images: Configured generator -> images that prompts and samples ask for and that are neither there nor
            failed.
        prelabels: Detector -> images that it answered about.
        without_prelabel: Images that no detector has answered about, nor been asked about in vain.
        prelabel_failed: Images that a detector was asked about in vain, and that nobody has answered about.
        annotated: Images on which a person's answer stands.
        waiting: Images whose tasks wait for a person.
        not_sent: Images that have no task and no annotation.
        projects: Open projects of Label Studio.
        unreviewed: Images with an annotation that nobody has reviewed.
        quarantined: Answers that could not be taken in and that nobody has mended.
        gold: Images with gold.
        not_enriched: Images with gold that no machine has written reasons for.
        failures: Stage -> reason code -> failures.
        unfinished_imports: Imports and withdrawals that were stopped on the way.
        exports: Under the home.
        running: Stage -> who is at work.
        progress: Stage -> how far a running one is, where it has written that down.
    """

    home: Path
    store: bool
    prompts: Mapping[str, int]
    images: Mapping[str, int]
    missing_images: Mapping[str, int]
    prelabels: Mapping[str, int]
    without_prelabel: int
    prelabel_failed: int
    annotated: int
    waiting: int
    not_sent: int
    projects: int
    unreviewed: int
    quarantined: int
    gold: int
    not_enriched: int
    failures: Mapping[str, Mapping[str, int]]
    unfinished_imports: int
    exports: tuple[Export, ...]
    running: Mapping[str, Holder]
    progress: Mapping[str, Note] = field(default_factory=dict)


def collect(settings: Settings) -> Status:
    """Collect the state of the home that these settings name; its store is read in one short transaction.

    Args:
        settings: Name the home and the generators.

    Returns:
        The status; also of a folder without a store.

    Raises:
        StoreError: The store cannot be read.
    """
    store = Store(settings.home)
    if store.path.exists():
        with store.read() as tx:
            facts = _facts(tx, settings)
    else:
        numbers = (
            "without_prelabel",
            "prelabel_failed",
            "annotated",
            "waiting",
            "not_sent",
            "projects",
            "unreviewed",
            "quarantined",
        )
        facts = dict.fromkeys((*numbers, "gold", "not_enriched", "unfinished_imports"), 0)
        facts |= {name: {} for name in ("prompts", "images", "missing_images", "prelabels", "failures")}
    at_work = running(settings.home)
    notes = {stage: read_note(note_path(settings.home, stage)) for stage in at_work}
    return Status(
        home=settings.home,
        store=store.path.exists(),
        exports=tuple(_exports(settings.home)),
        running=at_work,
        progress={stage: note for stage, note in notes.items() if note is not None},
        **facts,
    )


def _facts(tx: Tx, settings: Settings) -> dict[str, Any]:
    def number(sql: str) -> int:
        ((value,),) = tx.execute(f"SELECT count(*) FROM ({sql})").fetchall()
        return int(value)

    def table(sql: str) -> dict[str, int]:
        return {str(name): int(value) for name, value in tx.execute(sql).fetchall()}

    images = f"SELECT id FROM images WHERE {_ALIVE}"
    answered = f"SELECT image_id FROM prelabels WHERE {tombstones.alive(Withdrawn.PRELABEL, 'id')}"
    enriched = f"SELECT annotation_id FROM enrichments WHERE {tombstones.alive(Withdrawn.ENRICHMENT, 'id')}"
    asked_in_vain = len(prelabels.failed_about(tx))
    failures: dict[str, dict[str, int]] = {}
    for row in select(tx, "SELECT stage, code, count(*) AS n FROM failures GROUP BY ALL ORDER BY stage, n DESC, code"):
        failures.setdefault(row["stage"], {})[row["code"]] = row["n"]
    return {
        "prompts": table("SELECT split, count(*) FROM prompts GROUP BY split ORDER BY split"),
        "images": table(f"""
            SELECT model, count(*) FROM images JOIN variants ON variants.id = images.variant_id WHERE {_ALIVE}
            GROUP BY model ORDER BY model"""),
        "missing_images": _missing(tx, settings),
        "prelabels": table(f"""
            SELECT model, count(DISTINCT image_id) FROM prelabels
            WHERE image_id IN ({images}) AND {tombstones.alive(Withdrawn.PRELABEL, "id")}
            GROUP BY model ORDER BY model"""),
        "without_prelabel": number(f"{images} AND id NOT IN ({answered})") - asked_in_vain,
        "prelabel_failed": asked_in_vain,
        "annotated": number("SELECT DISTINCT image_id FROM annotation_states WHERE status <> 'skipped'"),
        "waiting": len(review_cases.waiting(tx)),
        "not_sent": number(f"""
            {images} AND id NOT IN (SELECT image_id FROM label_tasks WHERE state <> 'deleted')
            AND id NOT IN (SELECT image_id FROM annotation_states)"""),
        "projects": len(labelling.projects(tx, ProjectKind.ANNOTATE)),
        "unreviewed": number("""
            SELECT DISTINCT image_id FROM annotation_states WHERE state = 'unreviewed' AND status <> 'skipped'"""),
        "quarantined": number("SELECT 1 FROM label_entries WHERE quarantine_id IS NOT NULL AND NOT deleted"),
        "gold": number("SELECT image_id FROM gold"),
        "not_enriched": number(f"""
            SELECT image_id FROM gold WHERE status = 'defects' AND annotation_id NOT IN ({enriched})"""),
        "failures": failures,
        "unfinished_imports": sum(entry.state in ("unfinished", "withdrawing") for entry in imports.listed(tx)),
    }


def _missing(tx: Tx, settings: Settings) -> dict[str, int]:
    """By model's name alone: of which revision and settings they must be is known to `sdg generate run --dry-run`."""
    ((prompts,),) = tx.execute("SELECT count(*) FROM prompts").fetchall()
    wanted = prompts * settings.generate.samples_per_prompt
    rows = tx.execute("""
        SELECT model, count(*) FROM (
            SELECT variant_id, prompt_id, sample FROM images
            UNION SELECT variant_id, prompt_id, sample FROM failed_images
        ) AS done JOIN variants ON variants.id = done.variant_id GROUP BY model
    """).fetchall()
    done = {str(model): int(number) for model, number in rows}
    return {model: wanted - done.get(model, 0) for model in settings.generate.models if done.get(model, 0) < wanted}


def _exports(home: Path) -> list[Export]:
    root, exports = home / "exports", []
    for path in sorted((*root.glob(f"*/{MANIFEST}"), *root.glob(f"*/*/{MANIFEST}"))):
        name = str(path.parent.relative_to(root))
        try:
            manifest = read_manifest(Target(str(path.parent)))
        except (SdgError, OSError) as error:
            exports.append(Export(name, "", 0, error.message if isinstance(error, SdgError) else str(error)))
        else:
            exports.append(Export(name, manifest.format, manifest.samples))
    return exports
