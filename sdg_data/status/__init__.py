"""`sdg status`: where a home stands, and the next command."""
