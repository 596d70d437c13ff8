"""The commands ``batch``, a module each."""
