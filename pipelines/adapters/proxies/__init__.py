"""HAProxy and Envoy as routers, each behind an agent that holds the lease."""
