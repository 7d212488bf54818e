"""The pages, each owning its components, queries, figures and tables."""
