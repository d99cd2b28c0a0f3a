"""The small model family that the pack carries: its file, and what is in it."""
