"""The command push."""
