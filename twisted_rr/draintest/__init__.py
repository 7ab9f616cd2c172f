"""`twisted-rr drain-test`: stops a server under load and faults, and judges which invariants held.

A client program: it starts the server as a process of its own, speaks to it over sockets and signals, and
uses no Twisted. What the invariants demand is in `invariants`, what can go wrong in `faults`.
"""
