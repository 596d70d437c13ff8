"""Batches: thousands of recordings, planned once, worked through in shards by an engine that exists. Pure.

What stands in a line of ``items.jsonl`` and of a journal the node program knows too: :mod:`builder.node.items` and
:mod:`builder.node.journal`.
"""
