"""Everything is in setup.cfg; here is only how ``RR_MYPYC=1`` compiles what the section ``mypyc`` there names."""

import os
from configparser import ConfigParser
from glob import glob
from typing import Any

from setuptools import Distribution, setup
from setuptools.command.build_ext import build_ext

ASKED = os.environ.get("RR_MYPYC", "") not in ("", "0")
"""Without it nothing is compiled and nothing but setuptools is needed to build."""

CLASHES = ["unix", "__unix", "linux", "__linux"]
"""Macros of C compilers on Linux that are names of attributes here."""

cfg = ConfigParser()
cfg.read("setup.cfg")


def listed(section: str, name: str) -> list[str]:
    """The lines of a value in setup.cfg."""
    return cfg.get(section, name).split("\n")[1:]


def modules() -> list[str]:
    """The files to compile. A pattern that finds nothing is an error: the module was moved or renamed."""
    left = set(listed("mypyc", "exclude"))
    found: list[str] = []
    for pattern in listed("mypyc", "modules"):
        files = [name for name in sorted(glob(pattern)) if not name.endswith("__init__.py")]
        if not files:
            raise SystemExit(f"setup.cfg, mypyc.modules: there is no {pattern}")
        found += [name for name in files if name not in left and name not in found]
    return found


class Compiled(Distribution):
    """A distribution of this platform's, as its extensions are known only once they are built."""

    def has_ext_modules(self) -> bool:
        return True


class Compile(build_ext):
    """Asks mypyc for the extensions when they are built, and at no other step, since that takes a while."""

    def run(self) -> None:
        from mypyc.build import mypycify

        self.distribution.ext_modules = mypycify(
            ["--config-file=setup.cfg", "--follow-imports=silent", *modules()],
            opt_level=os.environ.get("RR_MYPYC_OPT", "2"),
            debug_level="0",
            multi_file=True,
        )
        for extension in self.distribution.ext_modules:
            extension.undef_macros = CLASHES
        self.swig_opts = None
        self.finalize_options()  # once more, now that there are extensions
        self.parallel = self.parallel or os.cpu_count()
        super().run()


def compiled() -> dict[str, Any]:
    """What a compiled build adds. mypy has to see the types of what we import, so that is needed as well."""
    needed = listed("mypyc", "requires") + listed("options", "install_requires")
    return {
        "ext_modules": [],
        "distclass": Compiled,
        "cmdclass": {"build_ext": Compile},
        "setup_requires": needed,
    }


setup(**(compiled() if ASKED else {}))
