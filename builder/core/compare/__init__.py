"""What models heard, against each other and against what is known to be true. Pure."""
