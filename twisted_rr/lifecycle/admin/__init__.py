"""The operator's door: HTTP on a unix socket of the server's own user, for drain, undrain, stop, reset and details."""
