// console: lines of the function's log.

import { native } from "mayfly:errors";
import { format, inspect } from "mayfly:inspect";

let indent = "";
const counts = new Map();
const times = new Map();

function say(error, values) {
  const text = format(values).toWellFormed();
  native.log(error, indent ? text.split("\n").map((line) => indent + line).join("\n") : text);
}

export const console = {
  log: (...values) => say(false, values),
  info: (...values) => say(false, values),
  debug: (...values) => say(false, values),
  warn: (...values) => say(true, values),
  error: (...values) => say(true, values),
  dir: (value) => say(false, [inspect(value, 1)]),
  dirxml: (...values) => say(false, values),
  table: (value) => say(false, [inspect(value, 1)]),

  trace(...values) {
    const stack = new Error().stack.split("\n").filter((line) => line && !line.includes("mayfly:")).join("\n");
    say(true, [`Trace: ${format(values)}\n${stack}`]);
  },

  assert(condition, ...values) {
    if (!condition) say(true, ["Assertion failed", ...(values.length > 0 ? [":", ...values] : [])]);
  },

  group(...values) {
    if (values.length > 0) say(false, values);
    indent += "  ";
  },

  groupEnd() { indent = indent.slice(2); },

  count(label = "default") {
    const count = (counts.get(label) ?? 0) + 1;
    counts.set(label, count);
    say(false, [`${label}: ${count}`]);
  },

  countReset(label = "default") { counts.delete(label); },
  time(label = "default") { times.set(label, native.now()); },

  timeLog(label = "default", ...values) {
    say(false, [`${label}: ${native.now() - (times.get(label) ?? native.now())} ms`, ...values]);
  },

  timeEnd(label = "default") {
    console.timeLog(label);
    times.delete(label);
  },

  clear() {},
};
console.groupCollapsed = console.group;
Object.defineProperty(console, Symbol.toStringTag, { value: "console", configurable: true });
