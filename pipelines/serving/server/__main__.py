"""`python -m pipelines.serving.server`: one model server's process; images start it under this name."""

from pipelines.serving.server.server import main

main()
