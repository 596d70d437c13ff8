"""Versions of images: go back to one, and let go of it."""
