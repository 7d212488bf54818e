"""Where the tools that write COCO files put the pictures and the split, as far as the file itself does not say.

CVAT        annotations/instances_SUBSET.json, pictures below images/ or images/SUBSET/ beside that folder
Roboflow    SPLIT/_annotations.coco.json, beside its pictures
"""

from pathlib import Path

from exports.imports.coco_join import CocoImage
from exports.imports.splits import is_split_name

_ROBOFLOW = "_annotations.coco.json"


def folder_of(file: Path, images: list[CocoImage]) -> Path:
    """The folder that the images' file names are relative to: the file's own, unless CVAT's has one of them."""
    beside, subset = file.resolve().parent, file.stem.removeprefix("instances_")
    if beside.name != "annotations":
        return file.parent
    names = [image.entry["file_name"] for image in images if isinstance(image.entry.get("file_name"), str)]
    for folder in (file.parent, beside.parent / "images", beside.parent / "images" / subset):
        if any(Path(folder / name).is_file() for name in names):
            return folder
    return file.parent


def split_of_file(file: Path) -> str | None:
    """The word for the split of all images of Roboflow's file; None where its folder's name is none."""
    folder = file.resolve().parent.name
    return folder if file.name == _ROBOFLOW and is_split_name(folder) else None
