"""Moved to `exports.read.reader`; this path goes in 0.3."""

from sdg_data.moved import moved

__getattr__ = moved("exports.reader", "exports.read.reader")
