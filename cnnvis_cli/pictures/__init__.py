"""Reading, resizing, writing and arranging pictures."""
