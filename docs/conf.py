"""Sphinx settings."""

import twisted_rr

project = "twisted_rr"
author = "the twisted_rr developers"
copyright = "2026, the twisted_rr developers"
version = release = twisted_rr.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "twisted_rr"
html_static_path = ["_static"]
exclude_patterns = ["_build", "_generated", "notes"]
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "show-inheritance": True}
nitpicky = False


def setup(app):  # type: ignore[no-untyped-def]
    """Pages drawn from the code are written before the sources are read."""
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parent))
    from generate import write_all

    write_all(Path(__file__).parent / "_generated")
