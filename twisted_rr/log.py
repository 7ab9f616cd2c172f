"""Loggers by channel: the one importer of txaio."""

from __future__ import annotations

from typing import Any

import txaio

txaio.use_twisted()


def logger(channel: str) -> Any:
    """A logger whose events carry *channel*."""
    from twisted.logger import Logger

    class ChannelLogger(Logger):
        def __init__(self, **arguments: Any) -> None:
            super().__init__(channel, None, arguments.get("observer"))

        def emit(self, level: Any, format: str | None = None, **fields: Any) -> None:
            super().emit(level, format, channel=channel, **fields)

    return txaio.make_logger(logger=ChannelLogger)
