"""What does a model do: what do callers send and get, and how is it judged? One folder a task."""
