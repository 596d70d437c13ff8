"""What is signed, and what can be checked: models sign, verify."""
