"""Whom the loader believes: senders' keys, what earlier bundles gave out, and names of images that are somebody else's."""
