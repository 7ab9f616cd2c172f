"""Public test doubles: fake reactor, processes, pool, port, transport and host."""
