"""`python -m flows.job_summary FILE`: the name by which users' workflows call it."""

from flows.show.job_summary import main

main()
