"""Sockets for the server: listening ports, write-at-once transports, worker relays, and one flush a turn."""
