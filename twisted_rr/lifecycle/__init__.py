"""Start, stop, drain and what is told about them: the heart of the server.

Nothing here speaks a client protocol; fronts and pools plug in through `twisted_rr.interfaces`.
"""
