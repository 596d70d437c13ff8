"""whisperbake: builds and runs offline speech transcription."""

__version__ = "0.1.0"
