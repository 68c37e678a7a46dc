
-- What a batch answers, and the cells of the check at hand: value, place among the keys, layout, cost.
local answer, answers = { now }, 1
local VALUE, KEY, LAYOUT, COST, ENFORCED = {}, {}, {}, {}, {}
-- Of the check at hand: the lease to be taken, if any, and how long it lasts.
local lease, lasts
local NO_LEASE = rep('\0', 8)
local DENIED, ADMITTED, REPLAYED, REUSED, FOREIGN, FULL, STALE = 0, 1, 2, 3, 4, 5, 6

-- Looks at a cell and answers whether every rule has room.
local function look(value, l, w, r, o, cost)
  local fits = true
  for g = FIRST[l], LAST[l] do
    local used, retry = W[w + 1], 0
    if W[w] == CURRENT[g] and used + cost <= CAPACITY[g] then
      answer[o], answer[o + 1], answer[o + 2] = CAPACITY[g] - used, 0, used > 0 and RESET[g] or 0
    else
      local kind = KIND[g]
      if kind == SLIDING_WINDOW then
        answer[o], retry, answer[o + 2] = look_sliding_window(g, w, r, value, cost)
      elseif kind == FIXED_WINDOW then
        answer[o], retry, answer[o + 2] = look_fixed_window(g, w, r, cost)
      elseif kind == TOKEN_BUCKET then
        answer[o], retry, answer[o + 2] = look_token_bucket(g, w, r, cost)
      elseif kind == SLIDING_LOG then
        answer[o], retry, answer[o + 2] = look_sliding_log(g, w, r, value, cost)
      else
        answer[o], retry, answer[o + 2] = look_concurrency(g, w, r, value, cost)
      end
      answer[o + 1] = retry
      if retry > 0 then fits = false end
    end
    w, r, o = w + 3, r + 1, o + 3
  end
  return fits
end

-- Writes the value of a cell whose expiry or tails have changed; `tails` has the new ones by rule.
-- Answers the error if it failed.
local function write_all(key, value, l, w, r, o, tails)
  local first, last = FIRST[l], LAST[l]
  local parts, longest = { pack(HEADERS[l], spread(W, w, w + 3 * (last - first) + 2)) }, 0
  for g = first, last do
    local i, kind = g - first, KIND[g]
    if answer[o + 3 * i + 2] > longest then longest = answer[o + 3 * i + 2] end
    if tails and tails[i] then
      parts[#parts + 1] = tails[i]
    elseif kind == SLIDING_WINDOW then
      local tail = TAIL[r + i]
      parts[#parts + 1] = value and sub(value, tail, tail + RING - 1) or NEW_RING
    elseif kind == SLIDING_LOG and value then
      local tail = TAIL[r + i]
      parts[#parts + 1] = sub(value, tail, tail + ENTRY * W[w + 3 * i + 1] - 1)
    elseif kind == CONCURRENCY and value then
      local tail = TAIL[r + i]
      parts[#parts + 1] = sub(value, tail, tail + LEASE * W[w + 3 * i + 1] - 1)
    end
  end
  -- 2 ms more than it counts: expiry has whole milliseconds and starts with the script.
  return raw('SET', key, concat(parts), 'PX', div(longest + 999, 1000) + 2).err
end

-- Charges the rules of a cell that have room, and writes it. Answers the error if that failed.
local function charge(key, value, l, w, r, o, cost)
  local first, last = FIRST[l], LAST[l]
  local moved, charged, tails = not value, false, nil
  local from, start, rule = w, o, r
  for g = first, last do
    local kind = KIND[g]
    -- Without a lease to be taken, what counts leases is only looked at.
    if answer[o + 1] == 0 and (kind ~= CONCURRENCY or lease) then
      charged = true
      answer[o] = answer[o] - cost
      if W[w] == CURRENT[g] then
        W[w + 1], W[w + 2] = W[w + 1] + cost, W[w + 2] + cost
        answer[o + 2] = RESET[g]
      else
        local tail
        moved = true
        if kind == SLIDING_WINDOW then
          answer[o + 2], tail = charge_sliding_window(g, w, r, value, cost)
        elseif kind == FIXED_WINDOW then
          answer[o + 2] = charge_fixed_window(g, w, r, cost)
        elseif kind == TOKEN_BUCKET then
          answer[o + 2] = charge_token_bucket(g, w, r)
        elseif kind == SLIDING_LOG then
          answer[o + 2], tail = charge_sliding_log(g, w, r, value, cost)
        else
          answer[o + 2], tail = charge_concurrency(g, w, r, value, cost, lease, lasts)
        end
        if tail then
          tails = tails or {}
          tails[g - first] = tail
        end
      end
    end
    w, r, o = w + 3, r + 1, o + 3
  end
  if not charged then return nil end
  if moved then return write_all(key, value, l, from, rule, start, tails) end
  -- Nothing that the expiry depends on has moved.
  local written = raw('SETRANGE', key, '0', pack(HEADERS[l], spread(W, from, w - 1)))
  if written ~= #value then return written.err end
end

-- How long a lease is still held that was taken before: not at all, 0, if one of the enforced limits has it no more.
local function still_lasts(id, cells)
  local least, w, r = lasts, 1, 1
  for c = 1, cells do
    for g = FIRST[LAYOUT[c]], LAST[LAYOUT[c]] do
      if KIND[g] == CONCURRENCY and ENFORCED[c] == 1 then
        local at = VALUE[c] and find_lease(VALUE[c], TAIL[r], W[w + 1], id)
        if not at then return 0 end
        local rest = unpack('<I7', VALUE[c], at + 8) - now
        if rest < least then least = rest end
      end
      w, r = w + 3, r + 1
    end
  end
  return least > 0 and least or 0
end

-- Whether this call may have written anything.
local wrote = false
local checks = ARGV[2]
local count, at = unpack('<I4', checks)
local k = 0
local chunks = {}

-- Packs the answer so far, in pieces, since Lua spreads only some thousands of values at once.
local function pack_answer()
  for from = 1, answers, 1000 do
    local last = from + 999 < answers and from + 999 or answers
    chunks[#chunks + 1] = pack('<' .. rep('I8', last - from + 1), spread(answer, from, last))
  end
  answers = 0
end

for _ = 1, count do
  local flags, cells
  flags, cells, at = unpack('<BI4', checks, at)
  local status, record, digest, ttl, taken = ADMITTED, nil, nil, nil, nil
  if flags >= 8 then
    local generation
    generation, at = unpack('<I8', checks, at)
    flags = flags - 8
    k = k + 1
    local known = raw('GET', KEYS[k])
    if known then
      known = type(known) == 'string' and tonumber(known)
      status = not known and FOREIGN or known > generation and STALE or ADMITTED
    end
  end
  if flags % 4 >= 2 then
    digest, ttl, at = unpack('<c16I8', checks, at)
    k = k + 1
    record = KEYS[k]
    local known = status == ADMITTED and raw('GET', record)
    if known and #known == 24 then -- with the lease that was taken
      known, taken = sub(known, 1, 16), sub(known, 17)
    end
    if known == digest then
      status = REPLAYED
    elseif known then
      status = #known == 16 and REUSED or FOREIGN
    end
  end
  lease = nil
  if flags >= 4 then lease, lasts, at = unpack('<c8I8', checks, at) end

  -- First every limit is read and decided.
  local o, w, r, fits = answers + 2, 1, 1, true
  for c = 1, cells do
    local l, cost, enforced
    l, cost, enforced, at = unpack('<I4I4B', checks, at)
    k = k + 1
    local value = raw('GET', KEYS[k])
    VALUE[c], KEY[c], LAYOUT[c], COST[c], ENFORCED[c] = value, KEYS[k], l, cost, enforced
    local rules = LAST[l] - FIRST[l] + 1
    if status >= REUSED or not open(value, l, w, r) then
      if status < REUSED then status = FOREIGN end
    elseif not look(value, l, w, r, o, cost) and enforced == 1 then
      fits = false
    end
    w, r, o = w + 3 * rules, r + rules, o + 3 * rules
  end

  -- Then, only if all enforced ones have room, every limit that has room is charged.
  if status == ADMITTED then
    if not fits then
      status = DENIED
    elseif flags % 2 == 1 then
      local failure
      w, r, o = 1, 1, answers + 2
      for c = 1, cells do
        local l = LAYOUT[c]
        failure = failure or charge(KEY[c], VALUE[c], l, w, r, o, COST[c])
        wrote = wrote or not failure
        local rules = LAST[l] - FIRST[l] + 1
        w, r, o = w + 3 * rules, r + rules, o + 3 * rules
      end
      if record and not failure then failure = raw('SET', record, digest .. (lease or ''), 'PX', ttl).err end
      if failure then
        -- Redis refuses the first write of a script or none, so nothing was charged.
        if not find(failure, 'OOM', 1, true) then
          -- Only who has written nothing may say so by a code that others know.
          return redis.error_reply(wrote and 'ERR after some writes: ' .. failure or failure)
        end
        status = FULL
      end
    end
  elseif status == REPLAYED then
    for i = answers + 3, o - 1, 3 do answer[i] = 0 end
  end
  if status >= REUSED then
    for i = answers + 2, o - 1 do answer[i] = 0 end
  end
  answer[answers + 1] = status
  answers = o - 1
  if lease then
    local held, least = NO_LEASE, 0
    if status == ADMITTED and flags % 2 == 1 then
      held, least = lease, lasts
    elseif status == REPLAYED and taken then
      least = still_lasts(taken, cells)
      if least > 0 then held = taken end
    end
    pack_answer()
    chunks[#chunks + 1] = held .. pack('<I8', least)
  end
  if answers > 1000 then pack_answer() end
end
pack_answer()
return concat(chunks)
