"""Weights without code: the image that is mounted, and the artifact that tools for models know."""
