"""The loader that travels in every bundle: standard library, Python 3.9, no import of the rest of builder.

Its modules are joined into one readable file, load.py (core/bundle/loader.py); the builder uses the same code to verify.
"""
