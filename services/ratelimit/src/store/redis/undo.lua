-- Takes back a charge of a cell: of every rule that was charged, as far as that is certain to give back no more than it took
-- (`Rule::undo` in src/domain). How far the clock had come stays known, and so does the expiry. Comes behind algorithms.lua.
--
-- KEYS[1]  the cell
-- ARGV[1]  its layout, as of a batch of one
-- ARGV[2]  tokens that were charged
-- ARGV[3]  when, in microseconds
-- ARGV[4]  how many microseconds ago, at least, by a clock that does not step back
-- ARGV[5]  a byte per rule: 1 if it was charged; then the lease that was taken c8, zeros if none was
--
-- Answers 1, or 0 if there is no such cell.

local value = raw('GET', KEYS[1])
if not value then return 0 end
if type(value) == 'table' then return value end
if not open(value, 1, 1, 1) then return redis.error_reply('ERR not a cell of these rules') end
local cost, charged_at, ago, charged = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]

local function undo_sliding_window(g, w, tail)
  local head, index = W[w], div(charged_at, A[g])
  local ring = sub(value, tail, tail + RING - 1)
  local taken = 0
  if index == head then
    taken = W[w + 2] < cost and W[w + 2] or cost
    W[w + 2] = W[w + 2] - taken
  elseif index < head and head - index <= SUB_WINDOWS then
    local slot = index % SUB_WINDOWS * 4
    local count = unpack('<I4', ring, slot + 1)
    taken = count < cost and count or cost
    ring = sub(ring, 1, slot) .. pack('<I4', count - taken) .. sub(ring, slot + 5)
  end
  W[w + 1] = W[w + 1] - taken
  return ring
end

local function undo_fixed_window(g, w)
  if window_at(A[g], B[g], charged_at) ~= W[w] then return end
  local used = W[w + 1] > cost and W[w + 1] - cost or 0
  W[w + 1], W[w + 2] = used, used
end

local function undo_token_bucket(g, w, r)
  if W[w + 2] ~= PACE[g] then return end
  local a, b, denominator = A[g], B[g], C[g]
  -- Another charge may have been made just before the clock stepped back.
  local paid = now - charged_at > ago and now - charged_at or ago
  local owed, owed_part = cost * a + div(cost * b, denominator) - paid, (cost * b) % denominator
  if owed < 0 then owed, owed_part = 0, 0 end
  look_token_bucket(g, w, r, 0)
  local whole, part = X[r] - owed, Y[r] - owed_part
  if part < 0 then whole, part = whole - 1, part + denominator end
  if whole < now then whole, part = now, 0 end
  W[w], W[w + 1] = whole, part
end

local function undo_sliding_log(w, tail)
  local entries = W[w + 1]
  local log, entry = sub(value, tail, tail + ENTRY * entries - 1), pack('<I7I2', charged_at, cost)
  for index = entries - 1, 0, -1 do
    local from = ENTRY * index
    if sub(log, from + 1, from + ENTRY) == entry then
      W[w + 1], W[w + 2] = entries - 1, W[w + 2] - cost
      return sub(log, 1, from) .. sub(log, from + ENTRY + 1)
    end
  end
  return log
end

local function undo_concurrency(w, tail)
  local leases = W[w + 1]
  local at = find_lease(value, tail, leases, sub(charged, LAST[1] + 1))
  if not at then return sub(value, tail, tail + LEASE * leases - 1) end
  local rest = sub(value, tail, at - 1) .. sub(value, at + LEASE, tail + LEASE * leases - 1)
  W[w] = #rest > 0 and unpack('<I7', rest, #rest - 8) or 0
  W[w + 1], W[w + 2] = leases - 1, W[w + 2] - unpack('<I2', value, at + 15)
  return rest
end

local tails = {}
for g = FIRST[1], LAST[1] do
  local w, kind, was_charged = 3 * g - 2, KIND[g], charged:byte(g) == 1
  if kind == SLIDING_WINDOW then
    local tail = TAIL[g]
    tails[#tails + 1] = was_charged and undo_sliding_window(g, w, tail) or sub(value, tail, tail + RING - 1)
  elseif kind == SLIDING_LOG then
    local tail = TAIL[g]
    tails[#tails + 1] = was_charged and undo_sliding_log(w, tail)
      or sub(value, tail, tail + ENTRY * W[w + 1] - 1)
  elseif kind == CONCURRENCY then
    local tail = TAIL[g]
    tails[#tails + 1] = was_charged and undo_concurrency(w, tail)
      or sub(value, tail, tail + LEASE * W[w + 1] - 1)
  elseif was_charged and kind == FIXED_WINDOW then
    undo_fixed_window(g, w)
  elseif was_charged then
    undo_token_bucket(g, w, g)
  end
end
local headers = pack(HEADERS[1], spread(W, 1, 3 * LAST[1]))
local written = raw('SET', KEYS[1], headers .. concat(tails), 'KEEPTTL')
if written.err then return written end
return 1
