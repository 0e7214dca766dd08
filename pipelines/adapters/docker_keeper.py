"""`python -m pipelines.adapters.docker_keeper`: the process beside a container, under the name that units know."""

import sys

from pipelines.adapters.docker.shim import main

sys.exit(main())
