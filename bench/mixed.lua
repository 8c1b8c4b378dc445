-- wrk script: every connection posts the requests of a file in turn.
-- Argument after "--": a file of requests, each four lines: path, content type, length of the body, body.
-- Prints one line "WRK {json}": how many requests were answered, refused and broken.
local requests, turn = {}, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  while true do
    local path = file:read("*l")
    if not path then break end
    local kind, length = file:read("*l"), tonumber(file:read("*l"))
    local body = file:read(length)
    file:read("*l")
    requests[#requests + 1] = wrk.format("POST", path, {["Content-Type"] = kind, ["Host"] = wrk.headers["Host"]}, body)
  end
  file:close()
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, _)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  print(string.format('WRK {"requests": %d, "refused": %d, "broken": %d}', summary.requests, errors.status, broken))
end
