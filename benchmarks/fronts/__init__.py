"""What a request costs in the server's process, and what in the workers."""
