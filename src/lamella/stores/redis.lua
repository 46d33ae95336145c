-- The verbs of the Redis store, one script each, run by the server as one step (redis.io, "Scripting with Lua").
--
-- The part before the first "---" line stands in front of every script. Names are {namespace}:kind:key; the braces are a hash
-- tag, so that all keys of a namespace lie in one slot of a cluster. The last of KEYS is {namespace}:n, the number that versions
-- and fencing tokens are taken from; what follows from it is where lists are. Times are the server's, in microseconds since 1970,
-- which a double holds exactly; '' stands for none. Numbers are written with formats: tostring() keeps 14 digits only.

local function now_us()
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
end

local function whole(number)
    return string.format('%.0f', number)
end

-- Larger than every number given before, also after a loss of data: the clock has gone on.
local function next_number(now)
    local key = KEYS[#KEYS]
    local number = math.max(tonumber(redis.call('GET', key) or '0') + 1, now)
    redis.call('SET', key, whole(number))
    return number
end

local function prefix()
    return string.sub(KEYS[#KEYS], 1, -2)
end

local function unlist(name, member)
    redis.call('ZREM', prefix() .. 'i:' .. name, member)
    redis.call('ZREM', prefix() .. 'u:' .. name, member)
end

-- A key that holds what expires lives as long as the last of it: until is in milliseconds, '' for ever.
local function live_until(key, was_there, until_ms, now_ms)
    if until_ms == '' then
        redis.call('PERSIST', key)
        return
    end
    local left = redis.call('PTTL', key)
    if not was_there or (left >= 0 and now_ms + left < until_ms) then
        redis.call('PEXPIREAT', key, whole(until_ms))
    end
end

-- Two orders of one list: by version, to be read; by the time of expiry, to be cleaned.
local function enlist(name, member, version, until_ms, now_ms)
    local order, expiry = prefix() .. 'i:' .. name, prefix() .. 'u:' .. name
    local was_there = redis.call('EXISTS', order) == 1
    redis.call('ZADD', order, whole(version), member)
    redis.call('ZADD', expiry, until_ms == '' and '+inf' or whole(until_ms), member)
    for _, gone in ipairs(redis.call('ZRANGEBYSCORE', expiry, '-inf', whole(now_ms), 'LIMIT', 0, 10)) do
        unlist(name, gone)
    end
    live_until(order, was_there, until_ms, now_ms)
    live_until(expiry, was_there, until_ms, now_ms)
end

-- KEYS: value, number. The key's name begins behind "{namespace}:v:".
local function write(value, expire_ms, name)
    local key = KEYS[1]
    local now = now_us()
    local version = next_number(now)
    local old = redis.call('HGET', key, 'l')
    if name == '' and old then
        name = old
    end
    local member = string.sub(key, #prefix() + 3)
    if old and old ~= name then
        unlist(old, member)
    end
    redis.call('HSET', key, 'v', value, 'n', whole(version))
    if name ~= '' then
        redis.call('HSET', key, 'l', name)
    end
    local now_ms = math.floor(now / 1000)
    local until_ms = expire_ms == '' and '' or now_ms + expire_ms
    if until_ms == '' then
        redis.call('PERSIST', key)
    else
        redis.call('PEXPIREAT', key, whole(until_ms))
    end
    if name ~= '' then
        enlist(name, member, version, until_ms, now_ms)
    end
    return version
end

-- A token bucket's level now: {level, since} is stored, a missing one is full.
local function level_of(key, rate, burst, now)
    local found = redis.call('HMGET', key, 'l', 't')
    if not found[1] then
        return burst
    end
    return math.min(burst, tonumber(found[1]) + math.max(0, now - tonumber(found[2])) / 1000000 * rate)
end

local function fill(key, rate, burst, level, now)
    if level >= burst then
        redis.call('DEL', key)
        return
    end
    redis.call('HSET', key, 'l', string.format('%.17g', level), 't', whole(now))
    if rate > 0 then
        local full_in = math.min(math.ceil((burst - level) / rate * 1000), 1e15)
        redis.call('PEXPIRE', key, whole(math.max(1, full_in)))
    else
        redis.call('PERSIST', key)
    end
end

-- {value, window, milliseconds left or -1}: zeros for a counter that is not there.
local function counted(key)
    local found = redis.call('HMGET', key, 'a', 'w')
    if not found[1] then
        return {0, 0, -1}
    end
    return {tonumber(found[1]), tonumber(found[2]), redis.call('PTTL', key)}
end

--- put
return write(ARGV[1], ARGV[2], ARGV[3])

--- put_if_absent
local found = redis.call('HMGET', KEYS[1], 'v', 'n')
if found[1] then
    return found
end
write(ARGV[1], ARGV[2], ARGV[3])
return false

--- compare_and_put
if (redis.call('HGET', KEYS[1], 'n') or '0') ~= ARGV[4] then
    return false
end
return write(ARGV[1], ARGV[2], ARGV[3])

--- delete
local found = redis.call('HMGET', KEYS[1], 'n', 'l')
if not found[1] or (ARGV[1] ~= '' and found[1] ~= ARGV[1]) then
    return 0
end
redis.call('DEL', KEYS[1])
if found[2] then
    unlist(found[2], string.sub(KEYS[1], #prefix() + 3))
end
return 1

--- listed
local name, limit = ARGV[1], tonumber(ARGV[3])
local order, expiry = prefix() .. 'i:' .. name, prefix() .. 'u:' .. name
local now_ms = whole(math.floor(now_us() / 1000))
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', expiry, '-inf', now_ms, 'LIMIT', 0, 1000)) do
    unlist(name, gone)
end
local answer, after = {}, ARGV[2]
while #answer < limit * 3 do
    local page = redis.call('ZRANGEBYSCORE', order, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, limit - #answer / 3)
    if #page == 0 then
        break
    end
    for at = 1, #page, 2 do
        local found = redis.call('HMGET', prefix() .. 'v:' .. page[at], 'v', 'n', 'l')
        if found[3] == name then
            answer[#answer + 1] = page[at]
            answer[#answer + 1] = found[1]
            answer[#answer + 1] = found[2]
        else
            unlist(name, page[at])
        end
    end
    after = page[#page]
end
return answer

--- add_all
-- ARGV, for each of KEYS: amount, ceiling, milliseconds to live, window. Answers, for each: value, added, left, window, fits.
local before, judged, all_fit = {}, {}, true
for at, key in ipairs(KEYS) do
    local count = counted(key)
    local amount, ceiling, window = tonumber(ARGV[at * 4 - 3]), ARGV[at * 4 - 2], ARGV[at * 4]
    before[at] = count
    if window ~= '' and tonumber(window) ~= count[2] then
        judged[at] = 'ended'
    elseif ceiling ~= '' and amount > 0 and count[1] + amount > tonumber(ceiling) then
        judged[at] = 'over'
        all_fit = false
    end
end
local answer = {}
for at, key in ipairs(KEYS) do
    local count, added = before[at], all_fit and not judged[at]
    if added then
        local amount, expire = tonumber(ARGV[at * 4 - 3]), ARGV[at * 4 - 1]
        local value = math.max(0, count[1] + amount)
        if count[2] ~= 0 then
            redis.call('HSET', key, 'a', whole(value))
            count[1] = value
        elseif amount > 0 then
            count = {value, now_us(), expire == '' and -1 or tonumber(expire)}
            redis.call('HSET', key, 'a', whole(value), 'w', whole(count[2]))
            if expire ~= '' then
                redis.call('PEXPIRE', key, expire)
            end
        end
    end
    answer[#answer + 1] = count[1]
    answer[#answer + 1] = added and 1 or 0
    answer[#answer + 1] = count[3]
    answer[#answer + 1] = count[2]
    answer[#answer + 1] = judged[at] == 'over' and 0 or 1
end
return answer

--- count
return counted(KEYS[1])

--- reset
local value = redis.call('HGET', KEYS[1], 'a')
redis.call('DEL', KEYS[1])
return tonumber(value or '0')

--- take
-- ARGV: how long the taker waits in seconds, then for each of KEYS: rate, burst, amount. Answers: granted, seconds to wait.
local now, wait, levels = now_us(), 0, {}
for at, key in ipairs(KEYS) do
    local rate, burst, amount = tonumber(ARGV[at * 3 - 1]), tonumber(ARGV[at * 3]), tonumber(ARGV[at * 3 + 1])
    local level = level_of(key, rate, burst, now)
    levels[at] = level
    if amount > level + 1e-9 * burst then
        if amount > burst or rate <= 0 then
            return {0, 'inf'}
        end
        wait = math.max(wait, (amount - level) / rate)
    end
end
if wait > tonumber(ARGV[1]) then
    return {0, string.format('%.17g', wait)}
end
for at, key in ipairs(KEYS) do
    local rate, burst, amount = tonumber(ARGV[at * 3 - 1]), tonumber(ARGV[at * 3]), tonumber(ARGV[at * 3 + 1])
    fill(key, rate, burst, levels[at] - amount, now)
end
return {1, string.format('%.17g', wait)}

--- settle
-- ARGV, for each of KEYS: rate, burst, amount.
local now = now_us()
for at, key in ipairs(KEYS) do
    local rate, burst, amount = tonumber(ARGV[at * 3 - 2]), tonumber(ARGV[at * 3 - 1]), tonumber(ARGV[at * 3])
    fill(key, rate, burst, level_of(key, rate, burst, now) - amount, now)
end
return 1

--- acquire
-- Holders are a sorted set: tokens by the millisecond in which they end.
local key, ttl, slots = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local now = now_us()
local now_ms = math.floor(now / 1000)
redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(now_ms))
local holders = redis.call('ZCARD', key)
if holders >= slots then
    return false
end
local token = next_number(now)
redis.call('ZADD', key, whole(now_ms + ttl), whole(token))
live_until(key, holders > 0, now_ms + ttl, now_ms)
return token

--- renew
local key, token, ttl = KEYS[1], ARGV[1], tonumber(ARGV[2])
local now_ms = math.floor(now_us() / 1000)
local ends = tonumber(redis.call('ZSCORE', key, token) or '0')
if ends <= now_ms then
    return 0
end
redis.call('ZADD', key, whole(now_ms + ttl), token)
live_until(key, true, now_ms + ttl, now_ms)
return 1

--- release
local key, token = KEYS[1], ARGV[1]
local ends = tonumber(redis.call('ZSCORE', key, token) or '0')
redis.call('ZREM', key, token)
return ends > math.floor(now_us() / 1000) and 1 or 0

--- append
local position = redis.call('RPUSH', KEYS[1], ARGV[1])
if ARGV[2] == '' then
    redis.call('PERSIST', KEYS[1])
else
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return position
