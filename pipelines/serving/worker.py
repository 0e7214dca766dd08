"""`python -m pipelines.serving.worker`: one of several processes of a gateway, which starts it under this name."""

import sys

from pipelines.serving.gateway.worker import main

main(sys.argv[1:])
