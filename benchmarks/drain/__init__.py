"""How much a stop, and answering about it, costs: signal to 503, idle connections, bookkeeping, health under stress."""
