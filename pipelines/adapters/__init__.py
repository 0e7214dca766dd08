"""One outside system a file: `<system>_<port>.py`."""
