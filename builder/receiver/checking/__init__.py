"""Part of the loader: what holds bytes against an inventory."""
