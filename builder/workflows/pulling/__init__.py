"""The command pull."""
