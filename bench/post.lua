-- wrk script: every connection posts one fixed body, over and over.
-- Arguments after "--": the file with the body, then "Name: value" headers.
-- Prints one line "WRK {json}"; latencies in microseconds, duration in microseconds.
function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  file:close()
  for index = 2, #args do
    local name, value = string.match(args[index], "([^:]+): (.*)")
    wrk.headers[name] = value
  end
end

function done(summary, latency)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  print(string.format(
    'WRK {"requests": %d, "refused": %d, "broken": %d, "duration_us": %d, "p50_us": %d, "p90_us": %d, "p99_us": %d, "max_us": %d}',
    summary.requests, errors.status, broken, summary.duration,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
