"""HTTP/1.1: requests a second, latency at half load and memory against gunicorn, uvicorn and granian."""
