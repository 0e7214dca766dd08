"""`python -m pipelines.serving.gateway`: one gateway's process."""

from pipelines.serving.gateway.gateway import main

main()
