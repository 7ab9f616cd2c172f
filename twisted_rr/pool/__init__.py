"""The server's side of workers: starting, feeding, supervising and stopping them."""
