"""Datumaro's own JSON as rows of an import: `annotations/SUBSET.json` with pictures below `images/`.

What it writes (versions 1.x, and the one that CVAT builds on): categories by position in `categories.label.labels`,
boxes as `bbox` [x, y, width, height] in pixels, polygons, masks in COCO's run lengths; reasons and importances stand in
`attributes`. A prompt is the item's attribute `prompt` or its annotation of the type `caption`. The subset is the word
for the split, unless it is `default`. Where two subsets have a picture of the same path, `--prompts` has to tell them
apart: `train/0001.png`.

- `is_crowd` and `outside` leave a shape out, as COCO's `iscrowd` does; a hidden (`occluded`) one counts as any other.
- A `rotation` in degrees makes the upright box around the turned one. Ellipses count by the box around them.
- Labels of the whole image say nothing of a place: they are no shapes, but an image whose label is a type of defect is
  not clean. Lines, points and cuboids are no boxes, so an image that has one is left out.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from exports.imports.listed_images import ListedImage, listed_rows, unsupported
from exports.imports.records import ExternalOptions
from exports.imports.richhf_names import FileNames
from exports.imports.rows import ImportRow
from exports.imports.source_files import read_table
from sdg_data.errors import InputError
from sdg_data.json_values import parse_json

ANNOTATIONS, IMAGES = "annotations", "images"
_DEFAULT = "default"
_OF_THE_IMAGE = frozenset({"label", "caption", "hash_key", "feature_vector"})
"""Annotations that are of no place."""


def datumaro_rows(source: Path, options: ExternalOptions, prompts: FileNames) -> Iterator[ImportRow]:
    """The items of a dataset.

    Args:
        source: Its folder, or one file of it.
        options: What holds for any file of others; its folder is where paths begin, `images/` by default.
        prompts: Prompts by file name, for items that state none.

    Raises:
        InputError: There is no such file, or it is no JSON of Datumaro's.
    """
    files = sorted((source / ANNOTATIONS).glob("*.json")) if source.is_dir() else [source]
    if not files:
        raise InputError("no dataset of Datumaro: there is no annotations/*.json", item=str(source))
    listed = {file: _file_images(file) for file in files}
    paths = Counter(image.file for images in listed.values() for image in images if isinstance(image.file, str))
    for file, images in listed.items():
        # The same path may be one picture in each subset.
        listed[file] = [
            replace(image, prompt_name=f"{file.stem}/{image.file}")
            if isinstance(image.file, str) and paths[image.file] > 1
            else image
            for image in images
        ]
    names = [image.prompt_name or image.file for images in listed.values() for image in images]
    prompts.of_rows(lambda: (name for name in names if isinstance(name, str)))
    for file, images in listed.items():
        pictures = file.resolve().parent.parent / IMAGES
        folders = (
            [options.folder] if options.folder is not None else [pictures / file.stem, pictures, file.resolve().parent]
        )
        yield from listed_rows(images, folders, options, prompts)


def _file_images(file: Path) -> list[ListedImage]:
    try:
        data = parse_json(read_table(file), strict=False)
    except ValueError as error:
        raise InputError(f"no JSON of Datumaro: {error}", item=str(file)) from error
    items = data.get("items") if isinstance(data, dict) else None
    if not isinstance(items, list):
        raise InputError("no JSON of Datumaro: it has no list of items", item=str(file))
    labels = _labels(data)
    split = None if file.stem == _DEFAULT else file.stem
    return [_listed(f"{file.name}#{number}", item, labels, split) for number, item in enumerate(items, start=1)]


def _labels(data: Mapping[str, Any]) -> list[object]:
    """The names of the labels, by their numbers."""
    categories = data.get("categories")
    of_labels = categories.get("label") if isinstance(categories, dict) else None
    rows = of_labels.get("labels") if isinstance(of_labels, dict) else None
    return [row.get("name") if isinstance(row, dict) else None for row in rows] if isinstance(rows, list) else []


def _listed(name: str, item: object, labels: Sequence[object], split: str | None) -> ListedImage:
    if not isinstance(item, dict):
        return ListedImage(name, None, {}, problem=("bad-row", "it is no object"))
    name = f"{name.partition('#')[0]}#{item['id']}" if isinstance(item.get("id"), str) else name
    annotations = item.get("annotations")
    if not isinstance(annotations, list):
        message = "it has no list of annotations, so it does not say that it is clean"
        return ListedImage(name, None, {}, problem=("no-annotations", message))
    if not all(isinstance(annotation, dict) for annotation in annotations):
        return ListedImage(name, None, {}, problem=("bad-row", "one of its annotations is no object"))
    image = item.get("image")
    if not isinstance(image, dict):
        return ListedImage(name, None, {}, problem=("bad-file-name", "it has no image (a video, or points in space)"))
    shapes = [_shape(annotation, labels) for annotation in annotations if annotation.get("type") not in _OF_THE_IMAGE]
    attributes = item.get("attr")
    stated = attributes if isinstance(attributes, dict) else {}
    captions = [annotation.get("caption") for annotation in annotations if annotation.get("type") == "caption"]
    size = image.get("size")
    height, width = size if isinstance(size, list) and len(size) == 2 else (None, None)
    entry = {
        "prompt": next((text for text in (stated.get("prompt"), stated.get("caption"), *captions) if text), None),
        "model": stated.get("model"),
        "split": split,
        "width": width,
        "height": height,
    }
    of_image = [_label(annotation, labels) for annotation in annotations if annotation.get("type") == "label"]
    return ListedImage(name, image.get("path"), entry, shapes, labels=of_image)


def _shape(annotation: Mapping[str, Any], labels: Sequence[object]) -> dict[str, Any]:
    attributes = annotation.get("attributes")
    flags = attributes if isinstance(attributes, dict) else {}
    shape = {
        "id": annotation.get("id"),
        "label": _label(annotation, labels),
        "attributes": flags,
        "iscrowd": flags.get("is_crowd"),
        "outside": flags.get("outside"),
    }
    kind, points = annotation.get("type"), annotation.get("points")
    if kind == "bbox":
        return shape | {"bbox": annotation.get("bbox")}
    if kind == "polygon":
        return shape | {"segmentation": [points]}
    if kind == "mask":
        return shape | {"segmentation": annotation.get("rle")}
    if kind == "ellipse" and isinstance(points, list) and len(points) == 4:
        # Datumaro gives an ellipse by the corners of the box around it.
        left, top, right, bottom = points
        return shape | {"segmentation": [[left, top, right, top, right, bottom]]}
    return shape | unsupported(f"{kind!s:.40}", shape["label"])


def _label(annotation: Mapping[str, Any], labels: Sequence[object]) -> object:
    """The name of an annotation's label; None where there is none."""
    number = annotation.get("label_id")
    known = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(labels)
    return labels[number] if known and isinstance(number, int) else None
