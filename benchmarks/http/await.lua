-- The application awaits 10 ms before it answers; every answer is compared.
expected = "Hello, world! This is the answer.\n"
dofile("verify.lua")
wrk.path = "/wait"
