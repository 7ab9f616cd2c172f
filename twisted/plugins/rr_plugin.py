"""What Twisted finds of twisted_rr: the `twistd rr` command, the `rr` reactor and the built-in plugins.

Strings only: every `twistd` start in this environment may import this file.
"""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

from twisted_rr.discovery import ServerPlugin

rr = ServiceMaker("twisted_rr", "twisted_rr.tap", "RoadRunner's application server on Twisted.", "rr")
rr_reactor = Reactor("rr", "twisted_rr.net.reactor", "epoll, with one write a relay and turn (Linux).")

grpc = ServerPlugin("grpc", "gRPC over HTTP/2 to worker processes", "twisted_rr.plugins.grpc.plugin")
http = ServerPlugin("http", "HTTP/1.1 to worker processes", "twisted_rr.plugins.http.plugin")
status = ServerPlugin("status", "health, readiness and start-up answers", "twisted_rr.plugins.status.plugin")
