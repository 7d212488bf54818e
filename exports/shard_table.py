"""Moved to `exports.read.shard_table`; this path goes in 0.3."""

from sdg_data.moved import moved

__getattr__ = moved("exports.shard_table", "exports.read.shard_table")
