-- Compares every answer with `expected`, and prints one line of JSON. Run by the scripts, in this folder.
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
