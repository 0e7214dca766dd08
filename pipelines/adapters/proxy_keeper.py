"""`python -m pipelines.adapters.proxy_keeper`: the process beside a proxy, under the name that units know."""

import sys

from pipelines.adapters.proxies.agent import main

sys.exit(main())
