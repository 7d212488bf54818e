"""One file a model: preset, adapter, flow; and the table that finds them."""
