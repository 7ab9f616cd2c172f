"""Configuration: RoadRunner's YAML, version "3", read to frozen settings with a place in every error.

Pure: nothing here imports Twisted, starts anything or changes the process's environment.
"""

from . import kinds
from .keys import key
from .registry import Registry

__all__ = ["Registry", "key", "kinds"]
