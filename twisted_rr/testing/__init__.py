"""Public test doubles: fake reactor, processes, pool and host."""
