"""A model hub on this machine, for tests and benchmarks; it misbehaves on command."""
