-- Decides a batch of checks, one after another, and charges what it admits.
--
-- The algorithms are those of src/domain, bit for bit. Lua has only doubles; every value here stays
-- below 2^53, where they are exact, and so are `a % b` and `(a - a % b) / b`.
--
-- KEYS     per check: the fence of its organization if it has one, its idempotency record if it has one, then its cells
-- ARGV[1]  the layouts of the batch: how many I4; of each its number of rules B and per rule kind B,
--          capacity I4 and three parameters I8 (docs/reference/redis.md)
-- ARGV[2]  the checks: how many I4; of each flags B (1 charge, 2 idempotency, 4 lease, 8 fence) and number of
--          cells I4; with a fence the generation by which the check was prepared I8; with idempotency the digest c16 and how long to remember it I8 (ms); with a lease its id c8 and
--          how long it lasts I8 (us); per cell its layout I4 (from 1), cost I4 and whether it is enforced B
--
-- Answers one string of I8: the time at which all of it was decided, then per check its status and, per rule,
-- remaining, retry after and reset after in microseconds; with a lease the id of the one that is held c8, zeros
-- if none is, and how long it lasts
-- in microseconds. Status: 0 denied, 1 admitted, 2 replayed, 3 idempotency key of another check,
-- 4 a key holds something else, 5 out of memory, 6 the fence is higher. After 3 to 6 nothing was changed.
--
-- The value of a cell: per rule a header I8 I4 I4, then per rule its tail.
--   sliding_window  newest sub-window, tokens in use, tokens of the newest; tail: 30 closed ones I4
--   fixed_window    start of the window, tokens in it, the same again
--   token_bucket    when it is full again, fraction of a microsecond in 1/denominator, pace
--   sliding_log     newest admission, entries, their tokens; tail: entries of time I7, cost I2
--   concurrency     expiry of the last lease, leases, their tokens; tail: the leases by their expiry, id c8,
--                   expiry I7, tokens I2

local KEYS, raw, unpack, pack, spread = KEYS, redis.pcall, struct.unpack, struct.pack, unpack
local sub, rep, find, concat = string.sub, string.rep, string.find, table.concat

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local SLIDING_WINDOW, FIXED_WINDOW, TOKEN_BUCKET, SLIDING_LOG, CONCURRENCY = 0, 1, 2, 3, 4
local DAY, SUB_WINDOWS, RING, ENTRY, LEASE = 86400000000, 30, 120, 9, 17
local NEW_RING = rep('\0', RING)

local function div(a, b)
  return (a - a % b) / b
end

-- Days from 1970-01-01 to the first of a month (Hinnant, days_from_civil).
local function days_to_first(year, month)
  if month <= 2 then year = year - 1 end
  local march_month = month > 2 and month - 3 or month + 9
  local year_of_era = year % 400
  local day_of_year = div(153 * march_month + 2, 5)
  local day_of_era = year_of_era * 365 + div(year_of_era, 4) - div(year_of_era, 100) + day_of_year
  return div(year, 400) * 146097 + day_of_era - 719468
end

-- Start and end of the window at `at`. Calendar: 0 of `length` each, 1 ISO weeks, 2 months.
local function window_at(calendar, length, at)
  if calendar == 0 then
    local start = at - at % length
    return start, start + length
  elseif calendar == 1 then
    local monday = 4 * DAY
    if at < monday then return 0, monday end
    local start = at - (at - monday) % (7 * DAY)
    return start, start + 7 * DAY
  end
  -- Hinnant, civil_from_days.
  local shifted = div(at, DAY) + 719468
  local day = shifted % 146097
  local year = div(day - div(day, 1460) + div(day, 36524) - div(day, 146096), 365)
  local march_month = div(5 * (day - (365 * year + div(year, 4) - div(year, 100))) + 2, 153)
  local month = march_month < 10 and march_month + 3 or march_month - 9
  year = year + div(shifted, 146097) * 400 + (month <= 2 and 1 or 0)
  local next_year, next_month = year, month + 1
  if month == 12 then next_year, next_month = year + 1, 1 end
  return days_to_first(year, month) * DAY, days_to_first(next_year, next_month) * DAY
end

-- Rules of all layouts, one behind the other. CURRENT is the head of a window that has not moved
-- since it was last charged, RESET after how long such a one is unused again: these are the same
-- for the whole batch, so most checks cost a comparison and an addition a rule.
local KIND, CAPACITY, A, B, C, CURRENT, RESET = {}, {}, {}, {}, {}, {}, {}
-- Of a token bucket: what all of its tokens take, and microseconds a token as the upper half of a double.
local REFILL, REFILL_PART, PACE = {}, {}, {}
-- Layouts: their rules, format of all headers, bytes of value without logs and leases, whether it has any.
local FIRST, LAST, HEADERS, SIZE, GROWS = {}, {}, {}, {}, {}

do
  local layouts = ARGV[1]
  local count, at = unpack('<I4', layouts)
  local g = 0
  for l = 1, count do
    local rules
    rules, at = unpack('B', layouts, at)
    local size = rules * 16
    FIRST[l], LAST[l], HEADERS[l], GROWS[l] = g + 1, g + rules, '<' .. rep('I8I4I4', rules), false
    for _ = 1, rules do
      g = g + 1
      local kind, a, b, c
      kind, CAPACITY[g], a, b, c, at = unpack('<BI4I8I8I8', layouts, at)
      KIND[g], A[g], B[g], C[g], CURRENT[g] = kind, a, b, c, -1
      if kind == SLIDING_WINDOW then
        local current = div(now, a)
        CURRENT[g], RESET[g] = current, (current + SUB_WINDOWS + 1) * a - now
        size = size + RING
      elseif kind == FIXED_WINDOW then
        local start, stop = window_at(a, b, now)
        CURRENT[g], RESET[g] = start, stop - now
      elseif kind == TOKEN_BUCKET then
        REFILL[g], REFILL_PART[g] = CAPACITY[g] * a + div(CAPACITY[g] * b, c), (CAPACITY[g] * b) % c
        PACE[g] = unpack('<I4', pack('<d', a + b / c), 5)
      else
        GROWS[l] = true
      end
    end
    SIZE[l] = size
  end
end

-- Headers of the check at hand: three words a rule.
local W = {}
-- Of its rules: where the tail lies in the value, and what the look found out for the charge.
local TAIL, X, Y = {}, {}, {}

-- Tokens of `count` closed sub-windows from `index` on, in the ring at `tail`.
local function closed(value, tail, index, count)
  local slot = index % SUB_WINDOWS
  if slot + count > SUB_WINDOWS then
    local before = SUB_WINDOWS - slot
    return closed(value, tail, index, before) + closed(value, tail, 0, count - before)
  end
  local at = tail + slot * 4
  if count == 1 then return (unpack('<I4', value, at)) end
  local tokens = { unpack('<' .. rep('I4', count), value, at) }
  local sum = 0
  for i = 1, count do sum = sum + tokens[i] end
  return sum
end

local function look_sliding_window(g, w, r, value, cost)
  local head, used, newest, width, capacity = W[w], W[w + 1], W[w + 2], A[g], CAPACITY[g]
  local current, at = CURRENT[g], now
  if head > current then -- the clock stepped back: it stands still
    current, at = head, head * width
  end
  if current - head > SUB_WINDOWS then
    used = 0
  elseif current ~= head then
    used = used - closed(value, TAIL[r], head, current - head)
  end
  X[r], Y[r] = current, used
  local remaining = capacity > used and capacity - used or 0
  local leaves = (head + SUB_WINDOWS + 1) * width - at
  local reset = used == 0 and 0 or leaves
  if cost <= remaining then return remaining, 0, reset end
  -- Unless the newest alone is too much, find which closed one has to go.
  if newest + cost <= capacity then
    local left = used
    for index = current - SUB_WINDOWS, head - 1 do
      left = left - unpack('<I4', value, TAIL[r] + index % SUB_WINDOWS * 4)
      if left + cost <= capacity then
        return remaining, (index + SUB_WINDOWS + 1) * width - at, reset
      end
    end
  end
  return remaining, leaves, reset
end

-- Answers reset and the new ring, if the window moved.
local function charge_sliding_window(g, w, r, value, cost)
  local head, newest, current, width = W[w], W[w + 2], X[r], A[g]
  local at = current > CURRENT[g] and current * width or now
  local reset = (current + SUB_WINDOWS + 1) * width - at
  W[w], W[w + 1] = current, Y[r] + cost
  if current == head then
    W[w + 2] = newest + cost
    return reset
  end
  W[w + 2] = cost
  local moved, tail = current - head, TAIL[r]
  if not value or moved > SUB_WINDOWS then return reset, NEW_RING end
  -- The slots from the old head on: it becomes closed, those after it are empty.
  local slots = pack('<I4', newest)
  if moved > 1 then slots = slots .. sub(NEW_RING, 1, 4 * (moved - 1)) end
  local from = head % SUB_WINDOWS * 4
  local to, stop = from + 4 * moved, tail + RING - 1
  if to <= RING then
    return reset, sub(value, tail, tail + from - 1) .. slots .. sub(value, tail + to, stop)
  end
  local before = RING - from
  return reset, sub(slots, before + 1) .. sub(value, tail + to - RING, tail + from - 1) .. sub(slots, 1, before)
end

local function look_fixed_window(g, w, r, cost)
  local start, used, at, stop = W[w], W[w + 1], now, now + RESET[g]
  X[r], Y[r] = CURRENT[g], 0
  if start > CURRENT[g] then -- the clock stepped back: it stands still
    at = start
    X[r], stop = window_at(A[g], B[g], start)
  end
  if X[r] == start then Y[r] = used else used = 0 end
  local remaining = CAPACITY[g] > used and CAPACITY[g] - used or 0
  return remaining, cost <= remaining and 0 or stop - at, used == 0 and 0 or stop - at
end

local function charge_fixed_window(g, w, r, cost)
  local start, used = X[r], Y[r] + cost
  W[w], W[w + 1], W[w + 2] = start, used, used
  if start == CURRENT[g] then return RESET[g] end
  local _, stop = window_at(A[g], B[g], start)
  return stop - start
end

-- Times of a token bucket are pairs: whole microseconds, and a part of one in 1/denominator.
local function look_token_bucket(g, w, r, cost)
  local whole, part, denominator = W[w], W[w + 1], C[g]
  local a, b = A[g], B[g]
  if W[w + 2] ~= PACE[g] then -- written under another limit: convert what is missing, rounded up
    local waiting = whole - now + (part > 0 and 1 or 0)
    local missing = 0
    if waiting > 0 then
      local tokens = waiting / unpack('<d', pack('<I4I4', 0, W[w + 2]))
      missing = tokens - tokens % 1
      if missing < tokens then missing = missing + 1 end
      if missing > CAPACITY[g] then missing = CAPACITY[g] end
    end
    whole, part = now + missing * a + div(missing * b, denominator), (missing * b) % denominator
  elseif part >= denominator then
    whole, part = whole + div(part, denominator), part % denominator
  end
  if whole < now then whole, part = now, 0 end
  local empty, empty_part = now + REFILL[g], REFILL_PART[g]
  local reset = whole - now + (part > 0 and 1 or 0)

  -- As many tokens as fit between now's full and empty: an estimate in doubles, then made exact.
  local room, room_part = empty - whole, empty_part - part
  if room_part < 0 then room, room_part = room - 1, room_part + denominator end
  local remaining = 0
  if room >= 0 then
    local estimate = (room + room_part / denominator) / (a + b / denominator)
    remaining = estimate - estimate % 1
    if remaining > CAPACITY[g] then remaining = CAPACITY[g] end
    while true do
      local takes = remaining * a + div(remaining * b, denominator)
      if takes < room or takes == room and (remaining * b) % denominator <= room_part then break end
      remaining = remaining - 1
    end
    while remaining < CAPACITY[g] do
      local more = remaining + 1
      local takes = more * a + div(more * b, denominator)
      if takes > room or takes == room and (more * b) % denominator > room_part then break end
      remaining = more
    end
  end

  local after, after_part = whole + cost * a + div(cost * b, denominator), part + (cost * b) % denominator
  if after_part >= denominator then after, after_part = after + 1, after_part - denominator end
  X[r], Y[r] = after, after_part
  if cost <= remaining then return remaining, 0, reset end
  local retry = after - empty
  return remaining, after_part > empty_part and retry + 1 or retry, reset
end

local function charge_token_bucket(g, w, r)
  W[w], W[w + 1], W[w + 2] = X[r], Y[r], PACE[g]
  return X[r] - now + (Y[r] > 0 and 1 or 0)
end

local function look_sliding_log(g, w, r, value, cost)
  local newest, entries, used, period, capacity = W[w], W[w + 1], W[w + 2], A[g], CAPACITY[g]
  local at = newest > now and newest or now
  local entry, gone = TAIL[r], 0
  if newest + period <= at then
    gone, used = entries, 0
  else
    while gone < entries do
      local admitted, tokens = unpack('<I7I2', value, entry)
      if admitted + period > at then break end
      gone, used, entry = gone + 1, used - tokens, entry + ENTRY
    end
  end
  X[r], Y[r] = gone, used
  local remaining = capacity > used and capacity - used or 0
  local reset = used == 0 and 0 or newest + period - at
  if cost <= remaining then return remaining, 0, reset end
  local left = used
  for _ = gone + 1, entries do
    local admitted, tokens
    admitted, tokens, entry = unpack('<I7I2', value, entry)
    left = left - tokens
    if left + cost <= capacity then return remaining, admitted + period - at, reset end
  end
  return remaining, period, reset
end

local function charge_sliding_log(g, w, r, value, cost)
  local newest, entries, gone = W[w], W[w + 1], X[r]
  if newest < now then newest = now end
  W[w], W[w + 1], W[w + 2] = newest, entries - gone + 1, Y[r] + cost
  local kept = value and sub(value, TAIL[r] + gone * ENTRY, TAIL[r] + entries * ENTRY - 1) or ''
  return A[g], kept .. pack('<I7I2', newest, cost)
end

local function look_concurrency(g, w, r, value, cost)
  local latest, leases, held, capacity = W[w], W[w + 1], W[w + 2], CAPACITY[g]
  local lease, gone = TAIL[r], 0
  if latest <= now then
    gone, held = leases, 0
  else
    while true do
      local expires, tokens = unpack('<I7I2', value, lease + 8)
      if expires > now then break end
      gone, held, lease = gone + 1, held - tokens, lease + LEASE
    end
  end
  X[r], Y[r] = gone, held
  local remaining = capacity > held and capacity - held or 0
  local reset = held == 0 and 0 or latest - now
  if cost <= remaining then return remaining, 0, reset end
  local left = held
  for _ = gone + 1, leases do
    local expires, tokens = unpack('<I7I2', value, lease + 8)
    left, lease = left - tokens, lease + LEASE
    if left + cost <= capacity then return remaining, expires - now, reset end
  end
  return remaining, A[g], reset
end

-- Takes a lease: of whom, and how long it lasts unless the rule's are shorter.
local function charge_concurrency(g, w, r, value, cost, id, ttl)
  local leases, gone = W[w + 1], X[r]
  local expires = now + (ttl < A[g] and ttl or A[g])
  local kept = value and sub(value, TAIL[r] + gone * LEASE, TAIL[r] + leases * LEASE - 1) or ''
  local behind = #kept
  while behind > 0 and unpack('<I7', kept, behind - 8) > expires do behind = behind - LEASE end
  if behind == #kept then W[w] = expires end
  W[w + 1], W[w + 2] = leases - gone + 1, Y[r] + cost
  return W[w] - now, sub(kept, 1, behind) .. id .. pack('<I7I2', expires, cost) .. sub(kept, behind + 1)
end

-- Where a lease is in the value, if it is there.
local function find_lease(value, tail, leases, id)
  local at, stop = tail, tail + leases * LEASE
  while true do
    at = find(value, id, at, true)
    if not at or at >= stop then return nil end
    if (at - tail) % LEASE == 0 then return at end
    at = at + 1
  end
end

-- Reads the headers of a value into W and finds the tails; false if it is not a value of the layout.
local function open(value, l, w, r)
  local first, last = FIRST[l], LAST[l]
  if not value then
    for i = w, w + 3 * (last - first) + 2 do W[i] = 0 end
    return true
  end
  local rules, size, found = last - first + 1, SIZE[l], #value
  if found < size or found > size and not GROWS[l] then return false end
  if rules == 1 then
    W[w], W[w + 1], W[w + 2] = unpack('<I8I4I4', value)
  elseif rules == 3 then
    W[w], W[w + 1], W[w + 2], W[w + 3], W[w + 4], W[w + 5], W[w + 6], W[w + 7], W[w + 8] =
      unpack('<I8I4I4I8I4I4I8I4I4', value)
  else
    for i = 0, rules - 1 do
      local at = w + 3 * i
      W[at], W[at + 1], W[at + 2] = unpack('<I8I4I4', value, 1 + 16 * i)
    end
  end
  local tail = rules * 16 + 1
  for g = first, last do
    TAIL[r] = tail
    local kind = KIND[g]
    if kind == SLIDING_WINDOW then
      tail = tail + RING
    elseif kind == SLIDING_LOG then
      tail = tail + ENTRY * W[w + 1]
    elseif kind == CONCURRENCY then
      tail = tail + LEASE * W[w + 1]
    end
    r, w = r + 1, w + 3
  end
  return tail == found + 1
end
