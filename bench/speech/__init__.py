"""make bench-speech: what the transcript is worth, on real speech and beside peers with the same weights."""
