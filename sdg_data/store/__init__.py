"""The store: what is known, in one DuckDB file. One module per table group: plain functions that take a transaction."""
