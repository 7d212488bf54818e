"""One file a model: preset, adapter, flow; `registry` finds them, `loading` loads them."""
