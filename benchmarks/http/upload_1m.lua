-- Uploads of 1 MiB; the size comes back and is compared.
expected = "1048576"
dofile("verify.lua")
wrk.method = "POST"
wrk.path = "/read"
wrk.body = string.rep("x", 1048576)
