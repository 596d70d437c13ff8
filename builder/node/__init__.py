"""What works through a shard of a batch on a node: Python 3.9 and its standard library, one file (``batch.pyz``)."""
