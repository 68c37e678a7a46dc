-- Forgets what one rule of a cell counted; the others and the expiry stay. The value is described
-- in algorithms.lua.
--
-- KEYS[1]  the cell
-- ARGV[1]  the kinds of its rules, a byte each
-- ARGV[2]  which rule, from 1
--
-- Answers 1 if the rule was cleared, 0 if there is no such cell.

local SLIDING_WINDOW, SLIDING_LOG, CONCURRENCY = 0, 3, 4
local value = redis.call('GET', KEYS[1])
if not value then return 0 end

local kinds, cleared = ARGV[1], tonumber(ARGV[2])
local parts, tail = {}, #kinds * 16 + 1
if #value < tail - 1 then return redis.error_reply('ERR not a cell of these rules') end
local tails = {}
for rule = 1, #kinds do
  local kind, from = string.byte(kinds, rule), 16 * rule - 15
  local length = 0
  if kind == SLIDING_WINDOW then
    length = 120
  elseif kind == SLIDING_LOG or kind == CONCURRENCY then
    local _, entries = struct.unpack('<I8I4', value, from)
    length = (kind == SLIDING_LOG and 9 or 17) * entries
  end
  if rule ~= cleared then
    parts[rule] = string.sub(value, from, from + 15)
    tails[#tails + 1] = string.sub(value, tail, tail + length - 1)
  else
    parts[rule] = string.rep('\0', 16)
    if kind == SLIDING_WINDOW then tails[#tails + 1] = string.rep('\0', length) end
  end
  tail = tail + length
end
if #value ~= tail - 1 then return redis.error_reply('ERR not a cell of these rules') end
redis.call('SET', KEYS[1], table.concat(parts) .. table.concat(tails), 'KEEPTTL')
return 1
