-- Uploads of 100 KB; the size comes back and is compared.
expected = "100000"
dofile("verify.lua")
wrk.method = "POST"
wrk.path = "/read"
wrk.body = string.rep("x", 100000)
