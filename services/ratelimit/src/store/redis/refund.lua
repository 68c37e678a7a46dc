-- Gives back tokens of a cell: of every rule those that were charged last and still count, as many as there are. How far
-- the clock had come stays known, and so does the expiry. Leases are not given back so: who holds one releases it. Comes
-- behind algorithms.lua.
--
-- KEYS[1]  the cell
-- ARGV[1]  its layout, as of a batch of one
-- ARGV[2]  tokens
--
-- Answers 1, or 0 if there is no such cell.

local value = raw('GET', KEYS[1])
if not value then return 0 end
if type(value) == 'table' then return value end
if not open(value, 1, 1, 1) then return redis.error_reply('ERR not a cell of these rules') end
local given = tonumber(ARGV[2])

-- Takes what is left to be taken out of `n`; answers the rest of it.
local left
local function take(n)
  local taken = n < left and n or left
  left = left - taken
  return n - taken
end

local function refund_sliding_window(g, w, tail)
  local head = W[w]
  local current = CURRENT[g] > head and CURRENT[g] or head
  local oldest = current - SUB_WINDOWS
  local ring = { unpack('<' .. rep('I4', SUB_WINDOWS), value, tail) }
  if head >= oldest then W[w + 2] = take(W[w + 2]) end
  local last = oldest > head - SUB_WINDOWS and oldest or head - SUB_WINDOWS
  for index = head - 1, last, -1 do
    local slot = index % SUB_WINDOWS + 1
    ring[slot] = take(ring[slot])
  end
  W[w + 1] = W[w + 1] - (given - left)
  return pack('<' .. rep('I4', SUB_WINDOWS), spread(ring, 1, SUB_WINDOWS))
end

local function refund_fixed_window(g, w)
  if W[w] < CURRENT[g] then return end
  local used = take(W[w + 1])
  W[w + 1], W[w + 2] = used, used
end

local function refund_token_bucket(g, w, r)
  local a, b, denominator = A[g], B[g], C[g]
  look_token_bucket(g, w, r, 0)
  local tokens = given < CAPACITY[g] and given or CAPACITY[g]
  local whole = X[r] - tokens * a - div(tokens * b, denominator)
  local part = Y[r] - (tokens * b) % denominator
  if part < 0 then whole, part = whole - 1, part + denominator end
  if whole < now then whole, part = now, 0 end
  W[w], W[w + 1], W[w + 2] = whole, part, PACE[g]
end

local function refund_sliding_log(g, w, tail)
  local newest, entries, period = W[w], W[w + 1], A[g]
  local at = newest > now and newest or now
  local changed = ''
  while entries > 0 and left > 0 do
    local admitted, tokens = unpack('<I7I2', value, tail + ENTRY * (entries - 1))
    if admitted + period <= at then break end
    local kept = take(tokens)
    entries = entries - 1
    if kept > 0 then
      changed = pack('<I7I2', admitted, kept)
      break
    end
  end
  local rest = sub(value, tail, tail + ENTRY * entries - 1) .. changed
  W[w + 1], W[w + 2] = #rest / ENTRY, W[w + 2] - (given - left)
  return rest
end

local tails = {}
for g = FIRST[1], LAST[1] do
  local w, kind = 3 * g - 2, KIND[g]
  left = given
  if kind == SLIDING_WINDOW then
    tails[#tails + 1] = refund_sliding_window(g, w, TAIL[g])
  elseif kind == FIXED_WINDOW then
    refund_fixed_window(g, w)
  elseif kind == TOKEN_BUCKET then
    refund_token_bucket(g, w, g)
  elseif kind == SLIDING_LOG then
    tails[#tails + 1] = refund_sliding_log(g, w, TAIL[g])
  else
    tails[#tails + 1] = sub(value, TAIL[g], TAIL[g] + LEASE * W[w + 1] - 1)
  end
end
local headers = pack(HEADERS[1], spread(W, 1, 3 * LAST[1]))
local written = raw('SET', KEYS[1], headers .. concat(tails), 'KEEPTTL')
if written.err then return written end
return 1
