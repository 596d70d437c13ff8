"""Results of the commands ``batch``, a module each."""
