"""The HTTP front: sessions of HTTP/1.1 joined to a pool of workers."""
