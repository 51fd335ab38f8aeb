-- wrk's script: sends each of the pool's signed bodies once, with a token of its own, so that every
-- request is a new event. Arguments: the pool's file, a prefix for the tokens.

local threads = 0

function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end

function init(args)
  prefix = args[2] .. id .. "-"
  heads, bodies, count = {}, {}, 0
  local signature = nil
  for line in io.lines(args[1]) do
    if signature then
      count = count + 1
      heads[count] = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: localhost\r\n"
        .. "Content-Type: application/json\r\nx-prembly-signature: " .. signature
        .. "\r\nContent-Length: " .. #line .. "\r\ntoken: "
      bodies[count] = "\r\n\r\n" .. line
      signature = nil
    else
      signature = line
    end
  end
  sent = 0
end

function request()
  sent = sent + 1
  if sent > count then
    error("the pool is empty: make it larger (load.MOST_A_SECOND)")
  end
  return heads[sent] .. prefix .. sent .. bodies[sent]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\nJSON {"answers": %d, "seconds": %.6f, "p99_ms": %.3f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
