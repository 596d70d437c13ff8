"""make bench-translate: the stage translate beside what others make of the same."""
