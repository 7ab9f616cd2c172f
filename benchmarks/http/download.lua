-- Downloads of 100 KB; every byte is compared.
expected = string.rep("x", 100000)
dofile("verify.lua")
wrk.path = "/big"
