-- Downloads of 1 MiB; every byte is compared.
expected = string.rep("x", 1048576)
dofile("verify.lua")
wrk.path = "/huge"
