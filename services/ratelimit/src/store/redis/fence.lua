-- Raises a fence. It never goes down.
--
-- KEYS[1]  the fence
-- ARGV[1]  the generation
-- ARGV[2]  how long it is kept, in milliseconds
--
-- Answers 1, or 0 if the fence was as high before; then it is kept longer too.

local known = redis.call('GET', KEYS[1])
local higher = known and tonumber(known) >= tonumber(ARGV[1])
redis.call('SET', KEYS[1], higher and known or ARGV[1], 'PX', ARGV[2])
return higher and 0 or 1
