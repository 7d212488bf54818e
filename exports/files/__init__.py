"""How an export's files are written: targets, tar shards, Parquet, JSONL, images, manifest; killed and resumed."""
