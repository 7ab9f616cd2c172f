-- The same request again and again; every answer is compared.
expected = "Hello, world! This is the answer.\n"
dofile("verify.lua")
