"""The dataset card: README.md with its YAML, the three figures, the Croissant metadata and the JSON Schema.

All of it follows from the samples and the store's snapshot; there is no date in it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from exports.dataset.sample_buffer import Entry
from exports.describe.croissant import CROISSANT, croissant
from exports.describe.split_leakage import SplitLeakage, split_leakage
from exports.describe.statistics import Statistics, people
from exports.files.export_job import ExportJob
from exports.files.image_files import in_threads
from exports.files.manifest import LEFT_OUT, FileEntry, Manifest
from exports.files.options import ExportOptions
from exports.files.source_images import UnreadableImage, image_bytes
from exports.formats import load_format
from exports.formats.contract import Columns
from schemas.defect import DefectType, ImportanceTier
from schemas.sample import Composition, Sample
from sdg_data.ingest.near_duplicates import perceptual_hash
from sdg_data.metrics.charts import Series, bars_png
from sdg_data.picture import DAMAGED
from sdg_data.store.connection import Store
from sdg_data.words import decimal

CARD, SCHEMA = "README.md", "sample.schema.json"
FIGURES = ("defects-per-image", "composition", "importance")
NAMES = (CARD, SCHEMA, CROISSANT, *(f"figures/{name}.png" for name in FIGURES))
"""The files that `describe` writes."""

_SPDX = {"apache-2.0": "apache-2.0", "mit": "mit", "cc-by-4.0": "cc-by-4.0", "cc0-1.0": "cc0-1.0"}
_SIZES = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]


def describe(job: ExportJob, store: Store, manifest: Manifest, options: ExportOptions) -> list[FileEntry]:
    """Write card, figures, Croissant and JSON Schema; their entries. `job.notes` gets the split proof."""
    counted = Statistics()
    for sample in job.buffer.samples():
        counted.add(sample)
    leakage = measure_leakage(job, phash=options.phash)
    job.notes["split_proof"] = leakage.model_dump(mode="json")
    job.claim(NAMES)
    files = [job.write_bytes(f"figures/{name}.png", png) for name, png in zip(FIGURES, _charts(counted), strict=True)]
    schema = orjson.dumps(Sample.model_json_schema(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    files.append(job.write_bytes(SCHEMA, schema))
    form = load_format(manifest.format)
    columns = None if form.columns is None else form.columns(job)
    measured = people(store, (entry.key for entry in job.buffer.entries))
    body = _body(manifest, form.description, counted, leakage, measured)
    files.append(job.write_bytes(CARD, (_front_matter(manifest, columns) + body).encode()))
    licences = sorted(manifest.counts["licence"])
    listed = sorted((*manifest.files, *files), key=lambda entry: entry.path)
    files.append(
        job.write_bytes(CROISSANT, croissant(manifest, listed, licences, None if columns is None else columns.records))
    )
    return files


def measure_leakage(job: ExportJob, *, phash: bool) -> SplitLeakage:
    """The split proof of the samples; `phash`: decode every image and compare their perceptual hashes too."""
    splits = job.buffer.splits
    prompts: dict[Any, dict[str, str]] = {split: {} for split in splits}
    blobs: dict[Any, dict[str, str]] = {split: {} for split in splits}
    for sample in job.buffer.samples():
        prompts[sample.split][sample.prompt_id] = sample.prompt
        blobs[sample.split][sample.sha256] = sample.key
    hashes: dict[Any, dict[str, int]] | None = None
    if phash and len(splits) > 1:
        hashes = {split: {} for split in splits}

        def hash_image(entry: Entry) -> tuple[Entry, int]:
            job.check()
            data = image_bytes(job.blobs, entry)
            try:
                return entry, perceptual_hash(data)
            except ValueError as error:
                raise UnreadableImage(entry.key, DAMAGED, str(error)) from error

        for entry, value in in_threads(job, hash_image, job.buffer.entries):
            hashes[entry.split][entry.key] = value
    return split_leakage(prompts, blobs, hashes)


def _charts(counted: Statistics) -> list[bytes]:
    """The PNGs of `FIGURES`."""
    return [
        bars_png(
            "Defects per image, by model and type",
            "mean number of defects",
            counted.models,
            [Series(str(kind), counted.per_image(kind)) for kind in DefectType],
        ),
        bars_png(
            "Composition", "% of images", [str(kind) for kind in Composition], [Series("images", counted.shares())]
        ),
        bars_png(
            "Importance, by tier and type",
            "defects",
            [str(name) for name in ImportanceTier],
            [Series(str(kind), counted.by_tier(kind)) for kind in DefectType],
        ),
    ]


def _front_matter(manifest: Manifest, columns: Columns | None) -> str:
    licences = sorted(manifest.counts["licence"])
    known = {_SPDX.get(licence.lower()) for licence in licences}
    value: dict[str, Any] = {
        "pretty_name": manifest.name,
        "license": known.pop() if len(known) == 1 and None not in known else "other",
        "language": ["en"],
        "task_categories": ["object-detection", "image-to-text"],
        "tags": ["text-to-image", "defects", "croissant", manifest.format],
        "size_categories": [next((name for limit, name in _SIZES if manifest.samples < limit), "n>1M")],
    }
    if value["license"] == "other":
        value["license_name"] = "by-model"
    if columns is not None:
        files = [
            {"split": split, "path": columns.files.format(name=manifest.name, split=split)}
            for split in manifest.counts["split"]
        ]
        value["configs"] = [{"config_name": "default", "data_files": files}]
        value["dataset_info"] = {"config_name": "default", "features": list(columns.features)}
    return "---\n" + "\n".join(_yaml(value)) + "\n---\n"


def _yaml(value: Any, indent: str = "") -> list[str]:
    """Lines of block YAML; scalars as JSON writes them, which is YAML too."""
    if isinstance(value, dict):
        lines = []
        for key, inner in value.items():
            if isinstance(inner, dict | list):
                lines += [f"{indent}{key}:", *_yaml(inner, indent + "  ")]
            else:
                lines.append(f"{indent}{key}: {orjson.dumps(inner).decode()}")
        return lines
    lines = []
    for inner in value:
        first, *rest = _yaml(inner, "") if isinstance(inner, dict | list) else [orjson.dumps(inner).decode()]
        lines += [f"{indent}- {first}", *(f"{indent}  {line}" for line in rest)]
    return lines


def _body(
    manifest: Manifest, description: str, counted: Statistics, leakage: SplitLeakage, measured: Mapping[str, Any]
) -> str:
    selection = manifest.settings["selection"]
    parts = [
        f"# {manifest.name}",
        (
            f"{manifest.samples} images that text-to-image models made, with their prompts and their defects: boxes, "
            f"types, reasons and importance. Exported as `{manifest.format}` ({description}) from "
            f"`{selection['source']}` by {manifest.tool}."
        ),
        (
            "A defect is an `artifact` (visible without the prompt) or a `misalignment` (contradicts it). Boxes are "
            "thousandths of width and height unless the manifest's notes say otherwise. An image without defects is "
            "stated to be clean; images that nobody judged are not in here."
        ),
        "## Counts",
        _table(["split", *manifest.counts["split"]], [["images", *manifest.counts["split"].values()]]),
        _table(
            ["model", "licence", "images", *(f"{kind}s per image" for kind in DefectType)],
            [
                [model, ", ".join(sorted(counted.licences[model])), counted.images[model]]
                + [f"{counted.per_image(kind)[index]:.2f}" for kind in DefectType]
                for index, model in enumerate(counted.models)
            ],
        ),
        "![Defects per image](figures/defects-per-image.png)",
        "## Composition",
        _table(
            ["", *map(str, Composition)],
            [
                ["images", *(counted.composition[kind] for kind in Composition)],
                ["%", *(f"{s:.1f}" for s in counted.shares())],
            ],
        ),
        "![Composition](figures/composition.png)",
        "## Importance",
        _table(["type", *map(str, ImportanceTier)], [[kind, *counted.by_tier(kind)] for kind in DefectType]),
        "![Importance](figures/importance.png)",
        "## Human ceiling",
        _ceiling(measured["ceiling"]),
        "## Blind and prelabelled annotation",
        _modes(measured["modes"]),
        "## Split proof",
        _proof(leakage),
        "## Known gaps",
        _gaps(manifest, counted),
        "## Files",
        (
            "`manifest.json` lists every file with its sha256; `sdg export verify` checks them. Samples are described "
            "by `sample.schema.json`, the dataset by `croissant.json`."
        ),
    ]
    return "\n\n".join(["", *parts]) + "\n"


def _ceiling(ceiling: Mapping[str, Any]) -> str:
    if not ceiling["images"]:
        return "Not measured: no image here was annotated by two people independently."
    values = [decimal(ceiling[str(kind)], 3) for kind in DefectType]
    return (
        "Two people who annotated the same image independently agree so far (micro BoxF1 at IoU 0.5); no detector's "
        "score says much without this figure beside it.\n\n"
        + _table(["images", *map(str, DefectType)], [[ceiling["images"], *values]])
    )


def _modes(modes: Mapping[str, Any]) -> str:
    if not all(modes[name]["annotations"] for name in ("blind", "prelabelled")):
        present = " and ".join(name for name, mode in modes.items() if mode["annotations"]) or "none"
        return f"Not comparable; first-round annotations: {present} only."
    rows = [
        [name, mode["annotations"], decimal(mode["defects"], 2), decimal(mode["seconds"], 0)]
        for name, mode in modes.items()
        if mode["annotations"]
    ]
    return _table(["first-round annotations", "number", "defects per image", "median seconds"], rows)


def _proof(leakage: SplitLeakage) -> str:
    lines = [
        f"- Prompts in more than one split: **{leakage.shared_prompts}** (prompts by split: "
        + ", ".join(f"{split} {number}" for split, number in leakage.prompts.items())
        + ").",
        f"- Images with equal bytes in more than one split: **{leakage.shared_images}**.",
        f"- Near-duplicate prompts across splits (trigram Jaccard ≥ 0.9): {leakage.near_prompts}.",
        "- Near-duplicate images across splits (perceptual hash, ≤ 4 of 64 bits): "
        + ("not looked for." if leakage.near_images is None else f"{leakage.near_images}."),
    ]
    lines += [f"  - {first!r} and {second!r}" for first, second in leakage.near_prompt_examples]
    return "\n".join(lines)


def _gaps(manifest: Manifest, counted: Statistics) -> str:
    defects, considered = sum(manifest.counts["defects"].values()), manifest.considered
    lines = [
        (
            f"- Of {considered['images']} stored images {considered['without_labels']} have no labels from this "
            f"source, {considered['filtered']} were filtered out, {considered['sampled_out']} sampled out."
        ),
        *_left_out(manifest),
        f"- {defects - counted.subtyped} of {defects} defects have no subtype.",
        f"- {defects - counted.expanded} of {defects} defects have no expanded reason.",
        f"- {manifest.samples - counted.traced} of {manifest.samples} images have no reasoning trace.",
    ]
    sources = manifest.counts["label_source"]
    if sources.get("prelabel"):
        lines.append(f"- {sources['prelabel']} images carry a machine's labels that nobody has checked.")
    if sources.get("unreviewed") or sources.get("annotator"):
        number = sources.get("unreviewed", 0) + sources.get("annotator", 0)
        lines.append(f"- {number} images carry labels that nobody has reviewed.")
    return "\n".join(lines)


def _left_out(manifest: Manifest) -> list[str]:
    left_out = manifest.notes.get(LEFT_OUT)
    if left_out is None:
        return []
    codes = ", ".join(f"{number} {code}" for code, number in left_out["codes"].items())
    return [f"- {left_out['images']} selected images are left out, because they cannot be read ({codes})."]


def _table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
