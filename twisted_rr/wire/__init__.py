"""The worker protocol without input or output: goridge frames, the mux extension, and their contexts.

Everything here takes bytes and gives bytes; sockets, timers and processes live elsewhere.
"""
