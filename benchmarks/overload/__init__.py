"""Goodput under more load than the workers can answer."""
