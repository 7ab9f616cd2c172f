"""Plugins: one folder each; none imports another."""
