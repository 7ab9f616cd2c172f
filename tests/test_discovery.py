"""Plugins by drop-in and by entry point, and what happens when one is broken."""

import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint

import pytest

from twisted_rr.build import registry
from twisted_rr.discovery import ServerPlugin, discover
from twisted_rr.errors import PluginLoadError


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, "twisted_rr.plugins")


ACME = ServerPlugin("acme", "says hello", "acme.plugin")


def test_built_in_plugins_are_found():
    assert {"http", "status"} <= set(discover())


def test_the_same_plugin_found_both_ways_is_one():
    assert discover([ACME, ServerPlugin("acme", "says hello", "acme.plugin")], []) == {"acme": ACME}


def test_two_plugins_for_one_section_are_refused():
    with pytest.raises(PluginLoadError, match=r"acme\.plugin and other\.plugin"):
        discover([ACME, ServerPlugin("acme", "another", "other.plugin")], [])


def test_an_entry_point_that_fails_is_named():
    with pytest.raises(PluginLoadError, match="no_such_module:plugin"):
        discover([], [entry("acme", "no_such_module:plugin")])


def test_an_entry_point_to_something_else_is_refused():
    with pytest.raises(PluginLoadError, match="no ServerPlugin"):
        discover([], [entry("acme", "os:getcwd")])


def test_a_module_without_its_two_names_is_refused():
    with pytest.raises(PluginLoadError, match="SETTINGS"):
        ServerPlugin("acme", "", "json").load()


def test_a_module_that_cannot_be_imported_is_refused_with_the_reason():
    with pytest.raises(PluginLoadError, match="No module named"):
        ServerPlugin("acme", "", "no_such_module_at_all").load()


PLUGIN = """
    from attrs import frozen
    from twisted.application.service import Service
    from twisted_rr.config import key, kinds

    @frozen(kw_only=True)
    class SETTINGS:
        greeting: str = key(kinds.string(), default="hello", doc="what to say")

    def build(settings, host):
        service = Service()
        service.setName(settings.greeting)
        host.place("CONTROL", service)
"""
BUILD = """
    from twisted.internet.task import Clock
    from twisted_rr.build import embed

    class Reactor(Clock):
        def addSystemEventTrigger(self, *args): return args
    server = embed({"version": "3", "acme": {"greeting": "good day"}}, Reactor())
    print([service.name for service in server.phase("CONTROL")])
"""


@pytest.mark.parametrize("way", ["drop-in", "entry point"])
def test_a_third_party_plugin_builds_its_part(tmp_path, way):
    """A plugin outside this project, found each way by a fresh process."""
    (tmp_path / "acme_rr.py").write_text(textwrap.dedent(PLUGIN))
    declared = 'from twisted_rr.discovery import ServerPlugin\nacme = ServerPlugin("acme", "says hello", "acme_rr")\n'
    if way == "drop-in":
        (tmp_path / "twisted" / "plugins").mkdir(parents=True)
        (tmp_path / "twisted" / "plugins" / "acme_dropin.py").write_text(declared)
    else:
        (tmp_path / "acme_declared.py").write_text(declared)
        info = tmp_path / "acme_rr-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-rr\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[twisted_rr.plugins]\nacme = acme_declared:acme\n")
    (tmp_path / "build.py").write_text(textwrap.dedent(BUILD))
    done = subprocess.run(
        [sys.executable, "build.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert "good day" in done.stdout, done.stdout + done.stderr


def test_an_unknown_section_names_the_nearest():
    from twisted_rr.build import read_config
    from twisted_rr.errors import ConfigError

    with pytest.raises(ConfigError, match="'status'"):
        read_config({"version": "3", "statsu": {}})


@pytest.mark.parametrize(("name", "why"), [("logs", "registered already"), ("a.b", "cannot be the name")])
def test_a_name_that_no_section_can_have_is_told_as_the_plugin_s(name, why):
    with pytest.raises(PluginLoadError, match=why):
        registry({name: ServerPlugin(name, "", "acme.plugin")})
