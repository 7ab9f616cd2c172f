"""How long a peer may leave unacknowledged what was sent to it follows ``http.timeouts.write``, also after a reload."""

import attrs
from front_world import World

from twisted_rr.plugins.http.config import TimeoutSettings
from twisted_rr.plugins.http.forwarded import Forwarding
from twisted_rr.plugins.http.uploads import UploadPolicy


def test_the_port_has_the_time_of_writes():
    world = World(timeouts=TimeoutSettings(write=7.0)).start()
    assert world.ports[-1].silence == 7.0
    world.front.use(
        attrs.evolve(world.front.settings, timeouts=TimeoutSettings(write=0.0)), Forwarding(), UploadPolicy()
    )
    assert world.ports[-1].silence == 0.0
