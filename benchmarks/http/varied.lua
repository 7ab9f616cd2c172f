-- A path and a cookie that change on every request, so that whole-head caches miss; every answer is compared.
local expected = "Hello, world! This is the answer.\n"
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init(args) wrong = 0; seen = 0 end
function response(status, headers, body)
    seen = seen + 1
    if status ~= 200 or body ~= expected then wrong = wrong + 1 end
end
function done(summary, latency, requests)
    local w, s = 0, 0
    for _, t in ipairs(threads) do w = w + t:get("wrong"); s = s + t:get("seen") end
    local e = summary.errors
    io.write(string.format('RESULT {"rate":%f,"p50":%f,"p99":%f,"wrong":%d,"verified":%d,"errors":%d}\n',
        summary.requests / summary.duration * 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000, w, s,
        e.connect + e.read + e.write + e.status + e.timeout))
end
local number = 0
function request()
    number = number + 1
    return string.format("GET /item/%d?page=%d HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: wrk\r\nAccept: text/html,application/json\r\nAccept-Encoding: gzip, deflate\r\nCookie: session=%08x; theme=dark\r\n\r\n",
        number, number % 97, number * 2654435761 % 4294967296)
end
