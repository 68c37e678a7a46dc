-- Lets a lease of a cell last longer, gives its place back, or looks whether it is held. The value is described in algorithms.lua.
--
-- KEYS[1]  the cell
-- ARGV[1]  the kinds of its rules, a byte each
-- ARGV[2]  the lease, c8
-- ARGV[3]  1 if all concurrency limits of the cell must hold it for it to last longer, 0 if any may
-- ARGV[4]  for how long, in microseconds from now; 0 to give it back, -1 to look
--
-- Answers 1 if it was held and that was done, 0 if not; a look, after how many microseconds it expires.

local SLIDING_WINDOW, SLIDING_LOG, CONCURRENCY, LEASE = 0, 3, 4, 17
local pack, unpack, sub = struct.pack, struct.unpack, string.sub
local value = redis.pcall('GET', KEYS[1])
local kinds, id, all, ttl = ARGV[1], ARGV[2], ARGV[3] == '1', tonumber(ARGV[4])
-- No cell of these rules, or none any more, holds no lease.
if type(value) ~= 'string' or #value < #kinds * 16 then return 0 end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local headers, tails, tail = {}, {}, #kinds * 16 + 1
local found, missing, held, least = false, false, false, 86400000000

-- Takes the lease out of its rule and, if it is to last longer, puts it behind those that expire before it or with it.
local function change(rule, leases, entries, tokens)
  local at = 1
  repeat
    at = string.find(leases, id, at, true)
    if not at then break end
    local between = (at - 1) % LEASE
    at = at + (between == 0 and 0 or 1)
  until between == 0
  if not at then
    missing = true
    return
  end
  local expires, of_lease = unpack('<I7I2', leases, at + 8)
  local rest = sub(leases, 1, at - 1) .. sub(leases, at + LEASE)
  found = true
  if expires > now then held = true else missing = true end
  if expires - now < least then least = expires - now end
  if ttl < 0 or ttl > 0 and expires <= now then return end
  if ttl > 0 then
    local behind = #rest
    while behind > 0 and unpack('<I7', rest, behind - 8) > now + ttl do behind = behind - LEASE end
    rest = sub(rest, 1, behind) .. id .. pack('<I7I2', now + ttl, of_lease) .. sub(rest, behind + 1)
  else
    entries, tokens = entries - 1, tokens - of_lease
  end
  local latest = #rest > 0 and unpack('<I7', rest, #rest - 8) or 0
  headers[rule], tails[rule] = pack('<I8I4I4', latest, entries, tokens), rest
end

for rule = 1, #kinds do
  local kind, from = string.byte(kinds, rule), 16 * rule - 15
  headers[rule] = sub(value, from, from + 15)
  local _, entries, tokens = unpack('<I8I4I4', value, from)
  local length = 0
  if kind == SLIDING_WINDOW then
    length = 120
  elseif kind == SLIDING_LOG then
    length = 9 * entries
  elseif kind == CONCURRENCY then
    length = LEASE * entries
  end
  tails[rule] = sub(value, tail, tail + length - 1)
  if #tails[rule] < length then return 0 end
  if kind == CONCURRENCY then change(rule, tails[rule], entries, tokens) end
  tail = tail + length
end
if #value ~= tail - 1 or not found then return 0 end
if ttl ~= 0 and (not held or all and missing) then return 0 end
if ttl < 0 then return least end
redis.call('SET', KEYS[1], table.concat(headers) .. table.concat(tails), 'KEEPTTL')
-- 2 ms more than it counts: expiry has whole milliseconds and starts with the script.
local keep = (ttl - ttl % 1000) / 1000 + 3
if ttl > 0 and redis.call('PTTL', KEYS[1]) < keep then redis.call('PEXPIRE', KEYS[1], keep) end
return held and 1 or 0
