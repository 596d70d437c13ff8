"""Several presets on the same recordings."""
