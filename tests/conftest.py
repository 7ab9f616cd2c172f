"""Settings for all tests, and ``--part``: one of the parts that run side by side (parts.py)."""

import pytest
from hypothesis import HealthCheck, settings
from parts import part_of, real_files

# No deadline for an example: how fast a shared machine is today says nothing about the code.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_addoption(parser):
    parser.addoption(
        "--part", help="of the integration tests: cells, alone, or a share of the others such as 1/2"
    )


def pytest_configure(config):
    part = config.getoption("--part")
    if part:
        files = real_files(config.rootpath)
        count = int(part.partition("/")[2] or 1)
        config.stash[PART] = {config.rootpath / name for name in files if part_of(name, files, count) == part}


PART = pytest.StashKey()


def pytest_ignore_collect(collection_path, config):
    """Do not even import the files of other parts."""
    if PART in config.stash and collection_path.suffix == ".py":
        return collection_path not in config.stash[PART] or None
    return None
