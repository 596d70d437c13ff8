"""Which languages can be translated into which."""
