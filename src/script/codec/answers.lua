-- The script whose answers are answers.tsv: its arguments are a row's fields but for the last one,
-- its reply is the last one. A server without the library `struct` leaves out the bits of numbers.

local function esc(s) return (string.gsub(s, '.', function(c)
  local b = string.byte(c)
  if c == '\t' then return '\\t' elseif c == '\r' then return '\\r' elseif c == '\n' then return '\\n'
  elseif c == "'" then return "\\'" elseif c == '"' then return '\\"' elseif c == '\\' then return '\\\\'
  elseif b < 0x20 or b > 0x7e then return string.format('\\x%02x', b) end
  return c end)) end
local function hex(s) return (string.gsub(s, '.', function(c) return string.format('%02x', string.byte(c)) end)) end
local function show(v)
  local t = type(v)
  if t == 'nil' then return 'nil' elseif t == 'userdata' then return 'null'
  elseif t == 'boolean' then return tostring(v)
  elseif t == 'number' then
    if v ~= v then return 'nan' end
    local struct = rawget(_G, 'struct')
    return string.format('%.14g', v) .. '#' .. (struct and hex(struct.pack('>d', v)) or '')
  elseif t == 'string' then return '"' .. esc(v) .. '"'
  elseif t == 'table' then
    local parts = {}
    for k, x in pairs(v) do parts[#parts+1] = show(k) .. '=' .. show(x) end
    table.sort(parts)
    return '{' .. table.concat(parts, ',') .. '}'
  end
  return t
end
local function list(...)
  local parts = {}
  for i = 1, select('#', ...) do parts[i] = show((select(i, ...))) end
  return table.concat(parts, ' ')
end
local op, settings, a, b, c = unpack(ARGV)
local json = cjson.new()
for name, value in string.gmatch(settings, '([%w_]+)=(%w+)') do
  if name == 'sparse' then
    local x = {}
    for n in string.gmatch(value, '%d+') do x[#x+1] = tonumber(n) end
    json.encode_sparse_array(x[1] == 1, x[2], x[3])
  elseif value == 'on' or value == 'off' or value == 'null' then json[name](value)
  else json[name](tonumber(value)) end
end
local ops = {
  decode = function() local r = json.decode(a) return show(r) end,
  recode = function() local v = json.decode(a) local r = json.encode(v) return esc(r) end,
  encode = function() local v = cmsgpack.unpack(a) local r = json.encode(v) return esc(r) end,
  pack = function() local r = cmsgpack.pack(cmsgpack.unpack(a)) return esc(r) end,
  pack_json = function() local v = json.decode(a) local r = cmsgpack.pack(v) return esc(r) end,
  unpack = function()
    local function collect(...) return list(...) end
    local r = collect(cmsgpack.unpack_limit(a, tonumber(b), tonumber(c))) return r end,
  set = function()
    local r = list(json[a](cmsgpack.unpack(b))) return r end,
}
local ok, e = pcall(ops[op])
if ok then return '= ' .. e end
if type(e) == 'table' then e = e.err end
e = string.gsub(e, '^ERR ', '')
local at = string.find(e, '^user_script:%d+: ')
e = string.gsub(e, '^user_script:%d+: ', '')
return (at and '! ' or '!! ') .. esc(e)
