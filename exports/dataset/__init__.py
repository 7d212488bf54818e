"""Which samples an export holds: selection, assembly of the released record, order."""
