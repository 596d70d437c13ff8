"""The folder of a batch: its files, its lock, the journals of its shards."""
