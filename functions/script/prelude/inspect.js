// Values in words, for the console.

// Deeper objects, and longer lists, are told of and not shown.
const DEPTH = 4;
const ITEMS = 100;
const TEXT = 10000;

export function inspect(value, depth = 0, seen = []) {
  switch (typeof value) {
    case "string": return depth === 0 ? value : quote(value);
    case "bigint": return `${value}n`;
    case "symbol": return value.toString();
    case "function": return functionName(value);
    case "object": return value === null ? "null" : object(value, depth, seen);
    default: return Object.is(value, -0) ? "-0" : String(value);
  }
}

const quote = (text) => JSON.stringify(text.length > TEXT ? `${text.slice(0, TEXT)}...` : text);

function functionName(value) {
  const isClass = Function.prototype.toString.call(value).startsWith("class");
  return `[${isClass ? "class" : "Function"}${value.name ? ` ${value.name}` : " (anonymous)"}]`;
}

function object(value, depth, seen) {
  if (seen.includes(value)) return "[Circular]";
  try {
    return known(value, depth, [...seen, value]);
  } catch (error) {
    return `[an object that cannot be shown: ${error?.message}]`;
  }
}

function known(value, depth, seen) {
  const inner = (item) => inspect(item, depth + 1, seen);
  if (value instanceof Error) return errorText(value, inner);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
  if (value instanceof RegExp) return String(value);
  const name = value.constructor?.name ?? "";
  if (depth > DEPTH) return Array.isArray(value) ? "[Array]" : `[${name || "Object"}]`;
  if (Array.isArray(value)) return list("[", limited(value.length, (at) => (at in value ? inner(value[at]) : "<empty>")), "]");
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
    return `${name}(${value.length}) ${list("[", limited(value.length, (at) => inspect(value[at], 1)), "]")}`;
  }
  if (value instanceof ArrayBuffer) return `ArrayBuffer { byteLength: ${value.byteLength} }`;
  if (value instanceof Map) {
    const items = [...value].slice(0, ITEMS).map(([key, item]) => `${inner(key)} => ${inner(item)}`);
    return `Map(${value.size}) ${list("{", items, "}")}`;
  }
  if (value instanceof Set) return `Set(${value.size}) ${list("{", [...value].slice(0, ITEMS).map(inner), "}")}`;
  if (value instanceof Promise) return "Promise {}";
  if (typeof value.toJSON === "function" && name === "URL") return `URL { ${value.href} }`;
  if (["Headers", "URLSearchParams", "FormData"].includes(name)) {
    return `${name} ${list("{", [...value].map(([key, item]) => `${quote(key)} => ${inner(item)}`), "}")}`;
  }
  if (name === "Request") return `Request { ${value.method} ${value.url} }`;
  if (name === "Response") return `Response { ${value.status} }`;
  const keys = Object.keys(value);
  const items = keys.slice(0, ITEMS).map((key) => {
    const { get } = Object.getOwnPropertyDescriptor(value, key) ?? {};
    return `${/^[\w$]+$/.test(key) ? key : quote(key)}: ${get ? "[Getter]" : inner(value[key])}`;
  });
  if (keys.length > ITEMS) items.push(`... ${keys.length - ITEMS} more`);
  const prefix = name && name !== "Object" ? `${name} ` : value.constructor ? "" : "[Object: null prototype] ";
  return `${prefix}${list("{", items, "}")}`;
}

function errorText(error, inner) {
  const stack = typeof error.stack === "string" ? error.stack : "";
  const frames = stack.split("\n").filter((line) => line.trim() && !line.includes("mayfly:")).join("\n");
  const own = Object.keys(error).filter((key) => key !== "stack" && key !== "message");
  const more = own.length > 0 ? ` ${list("{", own.map((key) => `${key}: ${inner(error[key])}`), "}")}` : "";
  const cause = "cause" in error && error.cause !== undefined ? `\n  [cause]: ${inner(error.cause)}` : "";
  return `${error}${frames ? `\n${frames}` : ""}${more}${cause}`;
}

function limited(length, item) {
  const items = Array.from({ length: Math.min(length, ITEMS) }, (_, at) => item(at));
  if (length > ITEMS) items.push(`... ${length - ITEMS} more`);
  return items;
}

const list = (open, items, close) => (items.length === 0 ? `${open}${close}`
  : open === "[" ? `[ ${items.join(", ")} ]` : `{ ${items.join(", ")} }`);

// Arguments as one text: a first one with %s and its like takes those that follow.
export function format(values) {
  if (typeof values[0] !== "string" || !values[0].includes("%")) return values.map((value) => inspect(value)).join(" ");
  const rest = values.slice(1);
  const text = values[0].replace(/%[sdifoOjc%]/g, (mark) => {
    if (mark === "%%") return "%";
    if (rest.length === 0) return mark;
    const value = rest.shift();
    switch (mark) {
      case "%s": return typeof value === "symbol" ? value.toString() : typeof value === "object" ? inspect(value, 1) : `${value}`;
      case "%d": return `${typeof value === "object" ? NaN : Number(value)}`;
      case "%i": return `${parseInt(value, 10)}`;
      case "%f": return `${parseFloat(value)}`;
      case "%j": return JSON.stringify(value);
      case "%c": return "";
      default: return inspect(value, 1);
    }
  });
  return [text, ...rest.map((value) => inspect(value))].join(" ");
}
