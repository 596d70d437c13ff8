"""Part of the loader: the version before the one that is loaded, and the way back to it."""
