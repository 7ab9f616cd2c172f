"""The status endpoints: /health, /ready, /startup and /jobs, for machines that ask anonymously.

They tell states, counts and ages; commands, pids and paths are the admin socket's.
"""
