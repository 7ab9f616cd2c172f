"""Configuration: RoadRunner's YAML, version "3", read to frozen settings with a place in every error.

Pure: nothing here imports Twisted, starts anything or changes the process's environment.
"""

from . import kinds
from .check import check
from .config import Config
from .keys import key
from .load import load
from .masking import masked
from .registry import Registry
from .render import render

__all__ = ["Config", "Registry", "check", "key", "kinds", "load", "masked", "render"]
