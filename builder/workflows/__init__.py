"""One short function a command; each reads like the picture in the README.

What was typed goes in, effects happen in ``edges``, a frozen result comes out; ``views`` shows it.
"""
