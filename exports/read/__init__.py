"""Reading shards: by sample or by table, shuffled, over ranks and workers, resumable."""
