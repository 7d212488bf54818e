"""Moved to `exports.read.torch_reader`; this path goes in 0.3."""

from sdg_data.moved import moved

__getattr__ = moved("exports.torch_reader", "exports.read.torch_reader")
