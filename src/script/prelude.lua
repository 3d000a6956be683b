-- Runs once in a fresh state and builds what scripts see of it. Gives back
--   environment          the proxy of the globals, which scripts are compiled with
--   library_environment  a function that makes such a proxy for a library that is to load, and a
--                        function that opens it to all globals once that is done
--
-- Tables of this Lua cannot be made read-only, so scripts get empty proxies: reading goes on to the
-- real table by __index, writing ends in an error, and whatever looks into a table by itself
-- (pairs, next, rawget, ...) is replaced by a version that knows the proxies. Everything here that
-- a script can reach is reached through one of them, but for the globals of a script that assigns
-- to none and cannot get at their table (Vm::compile), which looks at them as they are.
--
-- What calls functions of a script is written in Lua here where it can be: Lua calls Lua without
-- using the host's stack, and is seen by the hook.

local host = ...

local type, tostring, error, select = type, tostring, error, select
local rawget, rawset, next, pcall = rawget, rawset, next, pcall
local setmetatable, getmetatable, concat = setmetatable, getmetatable, table.concat
local table_sort, table_insert, table_remove = table.sort, table.insert, table.remove
local create, resume, compile, ENDED = coroutine.create, coroutine.resume, host.compile, host.ENDED

-- The proxies and what stands behind them.
local real_of = setmetatable({}, { __mode = "k" })

local function refuse()
  error("Attempt to modify a readonly table", 2)
end

local protect

protect = function(real, missing)
  local proxy = {}
  local meta = { __index = real, __newindex = refuse }
  if missing then
    setmetatable(real, { __index = missing })
  end
  -- What getmetatable shows of the proxy: the same two fields, and again nothing to write to.
  local shown = {}
  setmetatable(shown, { __index = { __index = proxy, __newindex = refuse }, __newindex = refuse,
    __metatable = false })
  meta.__metatable = shown
  real_of[proxy] = real
  real_of[shown] = { __index = proxy, __newindex = refuse }
  return setmetatable(proxy, meta)
end

-- Functions under names that no script has written, which nobody sees among the globals.
local joined = host.joined

local function next_of(real, key)
  local name, value = next(real, key)
  while joined[name] do
    name, value = next(real, name)
  end
  return name, value
end

local function copy_of(real)
  local copy = {}
  for key, value in next_of, real do
    copy[key] = value
  end
  return copy
end

local function pick(from, names)
  local picked = {}
  for name in names:gmatch("%S+") do
    picked[name] = from[name]
  end
  return picked
end

local globals = host.globals
globals.error = host.error
for name, value in next, pick(_G, "gcinfo ipairs rawequal tostring type _VERSION") do
  globals[name] = value
end

-- An integer that a function of Lua 5.1 takes is C's of 64 bits, of which most functions keep the
-- lower 32; LuaJIT makes the smallest integer of whatever has no place in 32. So its own functions
-- are given no number but those between these two.
local INT_BEFORE, INT_AFTER = -2^31 - 1, 2^31
local narrowed = host.narrowed

local function int(value)
  if type(value) == "string" then
    value = tonumber(value) or value
  end
  if type(value) == "number" and not (value > INT_BEFORE and value < INT_AFTER) then
    return narrowed(value)
  end
  return value
end

-- The second argument, which many do without, is such an integer, and there are no more.
local function narrowing_second(f)
  return function(...)
    local first, second = ...
    if second == nil then
      return f(...)
    end
    return f(first, int(second))
  end
end

-- A number below 0 in another base than 10 is what C's strtoul makes of it.
function globals.tonumber(...)
  local text, base = ...
  if base == nil then
    return tonumber(...)
  end
  base = int(base)
  if type(text) == "number" then
    text = tostring(text)
  end
  if type(text) ~= "string" or type(base) ~= "number" or not (base >= 2 and base < 37) then
    return tonumber(text, base)
  end
  local number = tonumber(text, base)
  local is_signed = base >= 10 and base < 11
  return number and number < 0 and not is_signed and number + 2^64 or number
end

function globals.select(...)
  local first = ...
  if first == "#" or first == nil then
    return select(...)
  end
  return select(int(first), select(2, ...))
end

local unpack = unpack

function globals.unpack(...)
  local list, first, last = ...
  if first == nil and last == nil then
    return unpack(...)
  end
  return unpack(list, int(first), int(last))
end

-- The message is a text, which says where it was raised.
function globals.assert(...)
  if (...) then
    return ...
  end
  local _, message = ...
  if select("#", ...) == 0 then
    message = "bad argument #1 to 'assert' (value expected)"
  elseif message == nil then
    message = "assertion failed!"
  elseif type(message) ~= "string" and type(message) ~= "number" then
    message = "bad argument #2 to 'assert' (string expected, got " .. type(message) .. ")"
  end
  error(message, 2)
end

-- What the first of some arguments is called in an error.
local function kind_of(...)
  return select("#", ...) == 0 and "no value" or type((...))
end

function globals.pairs(...)
  local t = ...
  local real = real_of[t]
  if real then
    return next, copy_of(real), nil
  end
  if type(t) ~= "table" then
    error("bad argument #1 to 'pairs' (table expected, got " .. kind_of(...) .. ")", 2)
  end
  return next, t, nil
end

function globals.next(...)
  local t, key = ...
  local real = real_of[t]
  if real then
    return next_of(real, key)
  end
  return next(...)
end

function globals.rawget(...)
  local t, key = ...
  local real = real_of[t]
  if real then
    return rawget(real, key)
  end
  return rawget(...)
end

-- A function that changes its first argument, and may not change what is everybody's.
local function changing(change)
  return function(...)
    if real_of[(...)] then
      error("Attempt to modify a readonly table", 0)
    end
    return change(...)
  end
end

globals.rawset, globals.setmetatable = changing(rawset), changing(setmetatable)

local string_meta

function globals.getmetatable(...)
  local t = ...
  if type(t) == "string" then
    return string_meta
  elseif type(t) == "userdata" then
    return nil
  end
  return getmetatable(...)
end

-- What follows a protected call. A script that is at its end does not go on because it has caught
-- the error that ends it; and of an error object pcall gives the text, as Redis has it.
local function settled(ok, ...)
  if ok then
    return true, ...
  end
  local problem = ...
  if problem == ENDED then
    error(ENDED, 0)
  end
  if type(problem) == "table" then
    local text = rawget(problem, "err")
    if type(text) == "string" or type(text) == "number" then
      return false, text
    end
  end
  return false, problem
end

function globals.pcall(f, ...)
  return settled(pcall(f, ...))
end

-- The handler runs when the call has been left: it has nothing to look at the stack with, and where
-- an error is raised by the hook, no hook would end it.
local function handled(handler, ok, ...)
  if ok then
    return true, ...
  end
  local problem = ...
  if problem == ENDED then
    error(ENDED, 0)
  end
  local is_handled, answer = pcall(handler, problem)
  if is_handled then
    return false, answer
  elseif answer == ENDED then
    error(ENDED, 0)
  end
  return false, "error in error handling"
end

function globals.xpcall(...)
  local f, handler = ...
  if select("#", ...) < 2 then
    error("bad argument #2 to 'xpcall' (value expected)", 2)
  end
  return handled(handler, pcall(f))
end

-- So many coroutines may have resumed one another, as in Lua 5.1, whose host's stack they use: each
-- costs memory, and errors pass through all of them. A number that an error has left too high is
-- right again where no coroutine runs.
local running = coroutine.running
local NESTED_MAX, TOO_DEEP = 200, "C stack overflow"
local nested = 0

local function nests_too_deep()
  if not running() then
    nested = 0
  end
  if nested >= NESTED_MAX then
    return true
  end
  nested = nested + 1
  return false
end

local function resumed(ok, ...)
  nested = nested - 1
  if not ok and ... == ENDED then
    error(ENDED, 0)
  end
  return ok, ...
end

local function unwrapped(ok, ...)
  nested = nested - 1
  if ok then
    return ...
  end
  local problem = ...
  error(problem, problem ~= ENDED and 2 or 0)
end

local function create_for(name, f)
  if type(f) ~= "function" then
    error("bad argument #1 to '" .. name .. "' (Lua function expected)", 3)
  end
  return create(f)
end

local function wrap(f)
  local thread = create_for("wrap", f)
  return function(...)
    if nests_too_deep() then
      error(TOO_DEEP, 2)
    end
    return unwrapped(resume(thread, ...))
  end
end

-- Only text is compiled, and all of it is there before that begins. It sees what scripts see.
local environment
local setfenv = setfenv

local function in_sandbox(f, ...)
  if f then
    return setfenv(f, environment)
  end
  return f, ...
end

function globals.loadstring(...)
  local text, name = ...
  if type(text) ~= "string" and type(text) ~= "number" then
    error("bad argument #1 to 'loadstring' (string expected, got " .. kind_of(...) .. ")", 2)
  end
  return in_sandbox(compile(tostring(text), name and tostring(name)))
end

function globals.load(...)
  local reader, name = ...
  if type(reader) ~= "function" then
    error("bad argument #1 to 'load' (function expected, got " .. kind_of(...) .. ")", 2)
  end
  local parts, count = {}, 0
  while true do
    local part = reader()
    if part == nil or part == "" then
      break
    end
    if type(part) ~= "string" then
      return nil, "reader function must return a string"
    end
    count = count + 1
    parts[count] = part
  end
  return in_sandbox(compile(concat(parts), name and tostring(name) or "=(load)"))
end

-- The settings of the collector would outlive the script. What it does is one piece of work, the
-- longer the more there is in the state: a kilobyte takes as long as some 64 instructions.
local collects = { count = true, collect = true, step = true }
local collect, spend, INSTRUCTIONS_PER_KILOBYTE = collectgarbage, host.spend, 64

function globals.collectgarbage(option, argument)
  option = option == nil and "collect" or option
  if collects[option] then
    if option ~= "count" then
      spend(collect("count") * INSTRUCTIONS_PER_KILOBYTE)
    end
    return collect(option, argument)
  end
  if option == "stop" or option == "restart" or option == "setpause" or option == "setstepmul" then
    return 0
  end
  if type(option) ~= "string" and type(option) ~= "number" then
    error("bad argument #1 to 'collectgarbage' (string expected, got " .. type(option) .. ")", 2)
  end
  error("bad argument #1 to 'collectgarbage' (invalid option '" .. option .. "')", 2)
end

local libraries = {
  string = pick(string, "dump format len lower reverse upper"),
  table = pick(table, "foreachi getn maxn"),
  math = pick(math, [[abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge log log10
    max min modf pi pow rad sin sinh sqrt tan tanh]]),
  coroutine = pick(coroutine, "running status yield"),
  os = pick(os, "clock"),
  bit = pick(bit, "tobit bnot band bor bxor lshift rshift arshift rol ror bswap tohex"),
}

-- What takes patterns is the host's own, which can be put aside.
for name, native in next, host.strings do
  libraries.string[name] = native
end

-- Places in a string keep all 64 bits: behind the end of each string is as good as further on.
local PLACE_MAX, PLACE_AFTER = INT_AFTER - 1, 2^63

local function place(value)
  if type(value) == "string" then
    value = tonumber(value) or value
  end
  if type(value) == "number" and value >= INT_AFTER and value < PLACE_AFTER then
    return PLACE_MAX
  end
  return value
end

local function placing(f)
  return function(...)
    local text, first, last = ...
    if type(first) == "number" and first < INT_AFTER
      and (last == nil or type(last) == "number" and last < INT_AFTER) then
      return f(text, first, last)
    elseif first == nil and last == nil then
      return f(...)
    end
    return f(text, place(first), place(last))
  end
end

libraries.string.byte, libraries.string.sub = placing(string.byte), placing(string.sub)
libraries.string.rep = narrowing_second(string.rep)
libraries.math.ldexp = narrowing_second(math.ldexp)

-- What Lua 5.1 had and this one has not.
libraries.string.gfind = libraries.string.gmatch
libraries.math.mod = math.fmod

libraries.math.random, libraries.math.randomseed = host.random.random, host.random.randomseed

libraries.coroutine.wrap = wrap

function libraries.coroutine.create(f)
  local thread = create_for("create", f)
  return thread
end

function libraries.coroutine.resume(...)
  if type((...)) ~= "thread" then
    error("bad argument #1 to 'resume' (coroutine expected)", 2)
  end
  if nests_too_deep() then
    return false, TOO_DEEP
  end
  return resumed(resume(...))
end

-- So many digits as asked for, and no more than there are.
local tohex = bit.tohex

function libraries.bit.tohex(...)
  local number, digits = ...
  if digits == nil then
    return tohex(...)
  end
  digits = int(digits)
  if type(digits) == "number" and (digits > 8 or digits < -8) then
    digits = digits < 0 and -8 or 8
  end
  return tohex(number, digits)
end

function libraries.table.setn()
  error("'setn' is obsolete", 2)
end

local foreach = table.foreach

function libraries.table.foreach(...)
  local t, f = ...
  local real = real_of[t]
  if real then
    return foreach(copy_of(real), f)
  end
  return foreach(...)
end

-- The host sorts by itself, and nothing would end that: elements of a long table are compared by
-- what counts.
local SORTED_BY_HOST_MAX = 10000
local is_less = host.is_less

libraries.table.sort = changing(function(...)
  local t, comes_before = ...
  if comes_before == nil and type(t) == "table" and #t > SORTED_BY_HOST_MAX then
    return table_sort(t, is_less)
  end
  return table_sort(...)
end)

-- The same holds for elements that make room for one far below the last: there may be as many as
-- integers, since a table with gaps has its border wherever there is one.
local MOVED_BY_HOST_MAX = 100000

local function insert_far(t, position, value)
  for index = #t + 1, position + 1, -1 do
    local moved = rawget(t, index - 1)
    if moved ~= nil or rawget(t, index) ~= nil then
      rawset(t, index, moved)
    end
  end
  rawset(t, position, value)
end

libraries.table.insert = changing(function(...)
  local t, position, value = ...
  if select("#", ...) ~= 3 or type(t) ~= "table" then
    return table_insert(...)
  end
  if type(position) ~= "number" or not (position < INT_AFTER) then
    position = int(position)
  end
  if type(position) ~= "number" or position >= 1 and #t - position <= MOVED_BY_HOST_MAX then
    return table_insert(t, position, value)
  end
  return insert_far(t, narrowed(position), value)
end)

libraries.table.remove = changing(narrowing_second(table_remove))

local unbounded_concat = concat

function libraries.table.concat(...)
  local list, gap, first, last = ...
  if first == nil and last == nil then
    return unbounded_concat(...)
  end
  return unbounded_concat(list, gap, int(first), int(last))
end

for name, library in next, libraries do
  globals[name] = protect(library)
end
for name, library in next, host.libraries do
  globals[name] = protect(library)
end
string_meta = protect({ __index = globals.string })
getmetatable("").__index = libraries.string

-- What scripts have of this kind is cjson.null, whose text some compare with this one.
function host.null_meta.__tostring()
  return "userdata: (nil)"
end

globals.redis = protect(host.redis)
globals.server = protect(host.server)

local function missing(_, name)
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end

environment = protect(globals, missing)
globals._G = environment

-- What is put around a returned call of ours, to be no tail call and lose none of its values.
local function answer(...)
  return ...
end
joined[host.answer] = answer

-- For scripts that have the globals without a guard, some functions under names of one word.
for name, f in next, joined do
  globals[name] = f
end

-- What a library sees while it loads.
local loading = {
  redis = protect(host.redis_while_loading, missing),
  server = protect(host.server_while_loading, missing),
  [host.answer] = answer,
}
setmetatable(loading, { __index = missing })

local function library_environment()
  local meta = { __index = loading, __newindex = refuse, __metatable = false }
  return setmetatable({}, meta), function()
    meta.__index = globals
  end
end

return environment, library_environment
