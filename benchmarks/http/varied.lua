-- A path and a cookie that change on every request, so that whole-head caches miss; every answer is compared.
expected = "Hello, world! This is the answer.\n"
dofile("verify.lua")
local number = 0
function request()
    number = number + 1
    return string.format("GET /item/%d?page=%d HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: wrk\r\nAccept: text/html,application/json\r\nAccept-Encoding: gzip, deflate\r\nCookie: session=%08x; theme=dark\r\n\r\n",
        number, number % 97, number * 2654435761 % 4294967296)
end
