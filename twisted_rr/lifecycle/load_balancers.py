"""What each kind of load balancer needs of a stop: presets of announce and offsets, with the reasons.

Numbers only, and what they are good for; how they fit into a budget is `budget`'s subject.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen(kw_only=True)
class Preset:
    """What ``drain.lb: <name>`` stands for, where the user wrote nothing else. Seconds from the signal.

    :ivar announce_min: listeners stay open at least this long,
    :ivar announce_max: and at most this long.
    :ivar share: the announce gets at most this part of the whole budget.
    :ivar ready_flip: when readiness fails; None: when the announce ends.
    :ivar goaway_start: when clients are told to go; None: when the announce ends.
    :ivar probes: the announce also waits until the balancer's probes have stopped.
    :ivar why: for people.
    """

    announce_min: float = 0.0
    announce_max: float = 0.0
    share: float = 0.2
    ready_flip: float | None = 0.0
    goaway_start: float | None = 0.0
    probes: bool = False
    why: str


PRESETS: Mapping[str, Preset] = {
    "none": Preset(why="Nobody routes by readiness: an announce would only delay the exit."),
    "kube-proxy": Preset(
        announce_min=2.0,
        announce_max=5.0,
        why="The endpoint leaves within a second or two of the pod's deletion; clients that were told to go "
        "find another pod at once.",
    ),
    "cilium-legacy": Preset(
        announce_min=2.0,
        announce_max=5.0,
        ready_flip=None,
        why="Cilium before 1.18 drops a terminating endpoint that is not ready from its map, and its open "
        "connections with it: readiness may fail only when the listeners close.",
    ),
    "envoy": Preset(
        announce_min=2.0,
        announce_max=10.0,
        why="Envoy ejects a host after a few failed health checks, or at once after an answer with "
        "X-Envoy-Immediate-Health-Check-Fail (drain.envoy_immediate_fail).",
    ),
    "alb": Preset(
        announce_min=15.0,
        announce_max=35.0,
        share=0.5,
        probes=True,
        why="Deregistration takes tens of seconds to reach every node; until its health checks stop, new "
        "requests still come.",
    ),
    "nlb": Preset(
        announce_min=15.0,
        announce_max=35.0,
        share=0.5,
        ready_flip=None,
        goaway_start=None,
        probes=True,
        why="It ends the established connections of a target that fails its checks, and sends those who "
        "reconnect meanwhile to the same target again: both wait until it has let go.",
    ),
}

#: Where the user named none: who routes by readiness is known under Kubernetes only.
BY_PLATFORM: Mapping[str, str] = {"kubernetes": "kube-proxy"}


def preset_of(lb: str | None, platform: str) -> Preset:
    """The preset for ``drain.lb``, or for the *platform* when that was not written."""
    return PRESETS[lb or BY_PLATFORM.get(platform, "none")]
