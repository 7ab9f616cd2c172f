"""HTTP/2 for a server, sans-io: frames, HPACK, flow control, limits, and the session that ties them together.

It opens no socket, keeps no timer and knows neither workers nor Twisted: a front gives it bytes and takes its
exchanges, a transport takes its bytes (`contract`). Priorities, server push and extended CONNECT are left out.
"""
