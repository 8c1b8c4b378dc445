-- wrk script: every connection posts the requests of a file in turn.
-- Argument after "--": a file of requests, each four lines: path, content type, length of the body, body.
-- Prints one line "WRK {json}": how many requests were answered, refused and broken; and for each kind of refusal a line
-- "REFUSED number status code: body" with the body of the first one. Where the body has no code, its text stands for it.
local requests, turn = {}, 0
local threads = {}
kinds, examples = {}, {} -- of this thread

function setup(thread)
  threads[#threads + 1] = thread
end

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

function response(status, _, body)
  if status >= 200 and status < 300 then return end
  local code = body:match('"code": ?"([%w_]+)"') or body:gsub("%d+", "N"):sub(1, 80)
  local kind = status .. " " .. code
  kinds[kind] = (kinds[kind] or 0) + 1
  examples[kind] = examples[kind] or body:sub(1, 300)
end

function done(summary, _)
  for _, thread in ipairs(threads) do
    local examples = thread:get("examples")
    for kind, number in pairs(thread:get("kinds")) do
      print(string.format("REFUSED %d %s: %s", number, kind, (examples[kind]:gsub("%c", " "))))
    end
  end
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  print(string.format('WRK {"requests": %d, "refused": %d, "broken": %d}', summary.requests, errors.status, broken))
end
