-- A new connection for each request; every answer is compared.
expected = "Hello, world! This is the answer.\n"
dofile("verify.lua")
wrk.headers["Connection"] = "close"
