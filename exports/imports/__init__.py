"""Importing datasets with their defects: our own exports, the public release, COCO, RichHF."""
