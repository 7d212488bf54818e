"""Contact sheets: cells chosen from the store, drawn as one picture."""
