"""Mask corpora as rows of an import: each connected region of a mask becomes a box, its category the reason.

Three layouts are read:

- A folder: pictures below `images/`, and `masks/CATEGORY/` with a PNG of the same relative name for each picture.
  Whatever is not black is marked. An image is clean only where every category of the folder has a mask for it, and all
  of them are empty; with masks of some categories alone it is neither clean nor boxed.
- SynthScars' JSON (arXiv 2503.15264): a list of `{key: {img_file_name, refs}}`, each ref with polygons
  (`segmentation`), a `sentence` and an `explanation`; pictures are in `../images/`. An empty list of refs is its word
  for a clean image.
- X-AIGD's parquet (`exports.imports.xaigd`), with polygons by category.

They have no prompts: a file of them by picture name (X-AIGD: by uid) is needed, as for RichHF.
"""

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from exports.formats.contract import RejectedRow
from exports.imports.coco_boxes import BadImage, defects_of, frame_of
from exports.imports.records import ExternalOptions, base_of, labelled
from exports.imports.richhf_names import FileNames
from exports.imports.rows import NO_BOXES, Boxes, ImportRow, LeftOut, LooseBoxes, PreparedRecord, RefusedRow
from exports.imports.source_files import check_source, read_below, read_table
from exports.imports.xaigd import is_parquet, reason_of, xaigd_rows
from schemas.defect import DefectType
from sdg_data.errors import InputError
from sdg_data.ingest.source_image import is_system_file
from sdg_data.json_values import parse_json
from sdg_data.picture import DAMAGED, PictureError, decode_pixels, read_header

MIN_PIXELS = 16
"""A region of fewer pixels is left out and counted: masks drawn by brush have crumbs."""
IMAGES, MASKS = "images", "masks"
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)

Region = dict[str, Any]


@dataclass(frozen=True)
class MaskOptions:
    """What holds for a mask corpus.

    Args:
        external: What holds for any file of others.
        prompts: The prompts by picture name.
        types: The defect type of a category; one that is not named marks artifacts.
        min_pixels: The smallest region that becomes a box.
    """

    external: ExternalOptions
    prompts: FileNames
    types: Mapping[str, DefectType] = field(default_factory=dict)
    min_pixels: int = MIN_PIXELS


def mask_rows(source: Path, options: MaskOptions) -> Iterator[ImportRow]:
    """The pictures of a mask corpus; see the module for the layouts.

    Raises:
        InputError: It is neither a folder with `masks/` nor SynthScars' JSON nor X-AIGD's parquet.
    """
    if source.is_dir():
        return _folder_rows(source, options)
    check_source(source)
    if is_parquet(source):
        return xaigd_rows(source, options.external, options.prompts, options.types)
    return _synthscars_rows(source, options)


# --- a folder of masks


def _folder_rows(source: Path, options: MaskOptions) -> Iterator[ImportRow]:
    images = options.external.folder or source / IMAGES
    categories = sorted(path.name for path in _listed(source / MASKS) if path.is_dir() and not path.is_symlink())
    if not categories:
        raise InputError(
            "there are no masks",
            item=str(source / MASKS),
            hint=f"A folder for each category: {MASKS}/texture/0001.png.",
        )
    left_over = {category: set(_files(source / MASKS / category)) for category in categories}
    names = _files(images)
    if not names:
        raise InputError("there are no pictures", item=str(images), hint="--images names their folder.")
    options.prompts.of_rows(lambda: names)
    for named in names:
        masks = {}
        for category, files in left_over.items():
            mask = str(PurePosixPath(named).with_suffix(".png"))
            if mask in files:
                files.discard(mask)
                masks[category] = mask
        yield _folder_row(source, images, named, masks, len(categories), options)
    strays = [
        LeftOut(f"{MASKS}/{category}/{name}", *_stray(name))
        for category, files in left_over.items()
        for name in sorted(files)
    ]
    if strays:
        yield LooseBoxes(Boxes(left_out=tuple(strays)))


def _folder_row(
    source: Path, images: Path, named: str, masks: Mapping[str, str], categories: int, options: MaskOptions
) -> ImportRow:
    boxes = NO_BOXES
    try:
        if is_system_file(named):
            raise RejectedRow(named, "system-file", "left there by an operating system")
        data = read_below(images, named, named)
        base = _base(named, named, data, options)
        if not masks:
            raise RejectedRow(named, "no-mask", "no category has a mask of its name: it is not known to be clean")
        regions: list[Region] = []
        left_out: list[LeftOut] = []
        frame: tuple[float, float] | None = None
        for category, mask in masks.items():
            marked = _mask(named, read_below(source / MASKS / category, mask, named), f"{MASKS}/{category}/{mask}")
            height, width = marked.shape
            mine = frame_of(named, {"width": width, "height": height}, base.image.width, base.image.height)
            if frame not in (None, mine):
                raise RejectedRow(named, "size-differs", "its masks differ in size")
            frame = mine
            bboxes, crumbs = regions_of(marked, options.min_pixels)
            regions += [{"bbox": bbox, "category": category, "reason": reason_of(category)} for bbox in bboxes]
            left_out += [
                LeftOut(f"{named}, {category}", "small-region", f"{pixels} pixels; {options.min_pixels} are the least")
                for pixels in crumbs
            ]
        boxes = Boxes(len(regions), tuple(left_out))
        if not regions and left_out:
            raise RejectedRow(named, "no-claim", "its regions are all too small: neither clean nor with defects")
        if not regions and len(masks) < categories:
            message = f"the masks of {len(masks)} of {categories} categories are empty, the others are not there"
            raise RejectedRow(named, "doubtful-clean", message)
        assert frame is not None
        return _labelled(named, base, regions, frame, options, tuple(left_out))
    except BadImage as error:
        return RefusedRow(error.reason, error.boxes)
    except RejectedRow as error:
        return RefusedRow(error, boxes)


def _mask(named: str, data: bytes, path: str) -> NDArray[np.bool_]:
    """(height, width), True where the mask is not black."""
    try:
        if "transparency" in read_header(data).rules and not _is_opaque(data):
            message = f"{path}: it is transparent in places: is what is marked black, or is it clear?"
            raise RejectedRow(named, "bad-mask", message)
        return np.asarray(decode_pixels(data).any(axis=2))
    except PictureError as error:
        raise RejectedRow(named, "bad-mask", f"{path}: {error}") from error


def _is_opaque(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:  # noqa: TID251  (its opacity alone is asked for)
            return image.convert("RGBA").getchannel("A").getextrema()[0] == 255
    except (OSError, ValueError, SyntaxError) as error:
        raise PictureError(DAMAGED, f"damaged: {error}") from error


def regions_of(marked: NDArray[np.bool_], min_pixels: int) -> tuple[list[list[int]], list[int]]:
    """The connected regions of a mask (eight neighbours), from the top down.

    Args:
        marked: (height, width).
        min_pixels: The smallest region that counts.

    Returns:
        A box [x, y, width, height] in pixels for each region that counts, and the pixels of each that does not.
    """
    labels, count = ndimage.label(marked, structure=_EIGHT_NEIGHBOURS)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    boxes, crumbs = [], []
    for number, slices in enumerate(ndimage.find_objects(labels), start=1):
        if sizes[number] < min_pixels:
            crumbs.append(int(sizes[number]))
            continue
        rows, columns = slices
        boxes.append([columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start])
    return boxes, crumbs


def _stray(name: str) -> tuple[str, str]:
    if is_system_file(name):
        return "system-file", "left there by an operating system"
    return "mask-without-image", "there is no picture of its name"


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"cannot read the folder ({error.strerror})", item=str(folder), hint=f"Masks are in {MASKS}/CATEGORY/."
        ) from error


def _files(folder: Path) -> list[str]:
    """Every file below a folder, by its path in it; links to folders are not followed."""
    names = []
    for root, _, files in os.walk(folder):
        names += [(Path(root) / name).relative_to(folder).as_posix() for name in files]
    return sorted(names)


# --- SynthScars


def _synthscars_rows(file: Path, options: MaskOptions) -> Iterator[ImportRow]:
    try:
        entries = parse_json(read_table(file))
    except ValueError as error:
        raise InputError(f"it is no JSON: {error}", item=str(file)) from error
    if not isinstance(entries, list):
        raise InputError("it is no list of SynthScars' entries", item=str(file))
    folder = options.external.folder or file.parent.parent / IMAGES
    for number, entry in enumerate(entries, start=1):
        yield _synthscars_row(f"{file.name}:{number}", entry, folder, options)


def _synthscars_row(name: str, entry: object, folder: Path, options: MaskOptions) -> ImportRow:
    boxes = NO_BOXES
    try:
        values = list(entry.values()) if isinstance(entry, dict) and len(entry) == 1 else [entry]
        image = values[0]
        if not isinstance(image, dict) or not isinstance(image.get("img_file_name"), str):
            raise RejectedRow(name, "bad-row", "an entry is {key: {img_file_name, refs}}")
        if not isinstance(image.get("refs"), list):
            raise RejectedRow(name, "no-annotations", "it has no list of refs, so it does not say that it is clean")
        refs = image["refs"]
        boxes = Boxes(len(refs))
        if not all(isinstance(ref, dict) for ref in refs):
            raise RejectedRow(name, "bad-row", "a ref is no object")
        named = image["img_file_name"]
        base = _base(name, named, read_below(folder, named, name), options)
        regions = [
            {
                "segmentation": ref.get("segmentation"),
                "category": ref.get("sentence"),
                "reason": next((ref[key] for key in ("explanation", "sentence") if ref.get(key)), None),
            }
            for ref in refs
        ]
        return _labelled(name, base, regions, (base.image.width, base.image.height), options)
    except BadImage as error:
        return RefusedRow(error.reason, error.boxes)
    except RejectedRow as error:
        return RefusedRow(error, boxes)


# --- both


def _base(name: str, named: str, data: bytes, options: MaskOptions) -> PreparedRecord:
    prompt = options.prompts.prompt(named, name)
    if prompt is None:
        raise RejectedRow(name, "no-prompt", f"no prompt is known for {named!r:.80} (--prompts names a file of them)")
    external = options.external
    return base_of(name, data, prompt, external, model=external.model, split=external.splits.split_of(name, None))


def _labelled(
    name: str,
    base: PreparedRecord,
    regions: Sequence[Region],
    frame: tuple[float, float],
    options: MaskOptions,
    left_out: tuple[LeftOut, ...] = (),
) -> PreparedRecord:
    types = [options.types.get(str(region["category"]), DefectType.ARTIFACT).value for region in regions]
    defects, boxes = defects_of(name, regions, types, frame, options.external.reason)
    account = Boxes(boxes.good, (*left_out, *boxes.left_out))
    return labelled(base, defects, None, None, options.external).with_boxes(account)
