"""What does transformers itself say of files from outside? Asked in a bounded child process, answered in plain JSON."""
