"""An application server on Twisted that speaks RoadRunner's worker protocol.

Importing the package loads nothing else: no reactor, no plugin, no YAML.
"""

__version__ = "2026.1.0.dev0"
