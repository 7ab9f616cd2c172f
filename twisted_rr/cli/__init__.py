"""The `twisted-rr` command. Nothing in here is imported by the server's other parts."""
