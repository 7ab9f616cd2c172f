"""HTTP/1.1 for a server, sans-io: strict parsing of requests, framing of answers, and the session between them.

It opens no socket, keeps no timer and knows neither workers nor Twisted: a front gives it bytes and takes its
exchanges, a transport takes its bytes (`contract`).
"""
