// structuredClone.

import { DOMException } from "mayfly:errors";

const refuse = (what) => new DOMException(`${what} cannot be cloned`, "DataCloneError");
const ERRORS = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };
// Types of the web's that know how to be cloned: each a test and a way.
const platform = [];
export const cloneAs = (type, clone) => platform.push({ type, clone });

export function structuredClone(value, options = {}) {
  const transfer = [...(options?.transfer ?? [])];
  const seen = new Map();
  for (const [at, buffer] of transfer.entries()) {
    if (!(buffer instanceof ArrayBuffer)) throw refuse("what is no ArrayBuffer is not transferable, and");
    if (buffer.detached) throw refuse("a detached ArrayBuffer");
    if (transfer.indexOf(buffer) !== at) throw refuse("a buffer that is transferred twice");
    seen.set(buffer, null);
  }
  // Looked through before anything is taken away.
  const result = copy(value, seen, new Set(transfer));
  for (const buffer of transfer) if (!buffer.detached) buffer.transfer();
  return result;
}

function copy(value, seen, transfer) {
  if (typeof value === "symbol") throw refuse("a symbol");
  if (typeof value === "function") throw refuse("a function");
  if (typeof value !== "object" || value === null) return value;
  const known = seen.get(value);
  if (known) return known;
  const keep = (made) => {
    seen.set(value, made);
    return made;
  };
  for (const type of [Boolean, Number, String, BigInt]) {
    if (isWrapper(value, type)) return keep(Object(type.prototype.valueOf.call(value)));
  }
  if (value instanceof Symbol || value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef) {
    throw refuse(`a ${value.constructor?.name ?? "Symbol"}`);
  }
  if (value instanceof Promise) throw refuse("a promise");
  if (value instanceof Date) return keep(new Date(value.getTime()));
  if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
  if (value instanceof ArrayBuffer) {
    if (value.detached) throw refuse("a detached ArrayBuffer");
    if (!transfer.has(value) && value.resizable) {
      const made = new ArrayBuffer(value.byteLength, { maxByteLength: value.maxByteLength });
      new Uint8Array(made).set(new Uint8Array(value));
      return keep(made);
    }
    return keep(value.slice(0));
  }
  if (ArrayBuffer.isView(value)) {
    const buffer = copy(value.buffer, seen, transfer);
    const length = value instanceof DataView ? value.byteLength : value.length;
    return keep(new (viewType(value))(buffer, value.byteOffset, length));
  }
  if (value instanceof Map) {
    const made = keep(new Map());
    for (const [key, item] of [...Map.prototype.entries.call(value)]) {
      made.set(copy(key, seen, transfer), copy(item, seen, transfer));
    }
    return made;
  }
  if (value instanceof Set) {
    const made = keep(new Set());
    for (const item of [...Set.prototype.values.call(value)]) made.add(copy(item, seen, transfer));
    return made;
  }
  for (const { type, clone } of platform) if (value instanceof type) return keep(clone(value));
  if (value instanceof Error) return copyError(value, keep, (inner) => copy(inner, seen, transfer));
  if (Array.isArray(value)) {
    const made = keep(new Array(value.length));
    return copyProperties(value, made, seen, transfer);
  }
  return copyProperties(value, keep({}), seen, transfer);
}

function isWrapper(value, type) {
  if (!(value instanceof type)) return false;
  try {
    type.prototype.valueOf.call(value);
    return true;
  } catch {
    return false;
  }
}

const VIEWS = [
  DataView, Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, BigInt64Array,
  BigUint64Array, Float32Array, Float64Array,
];
const viewType = (view) => VIEWS.find((type) => view instanceof type) ?? refuseView(view);
const refuseView = (view) => { throw refuse(`a ${view.constructor?.name}`); };

function copyError(value, keep, inner) {
  const type = ERRORS[value.name] ?? Error;
  const error = keep(new type());
  const message = Object.getOwnPropertyDescriptor(value, "message");
  if (message && "value" in message) Object.defineProperty(error, "message", {
    value: `${message.value}`, writable: true, configurable: true, enumerable: false,
  });
  Object.defineProperty(error, "stack", { value: `${value.stack ?? ""}`, writable: true, configurable: true });
  if ("cause" in value) {
    Object.defineProperty(error, "cause", { value: inner(value.cause), writable: true, configurable: true });
  }
  return error;
}

function copyProperties(value, made, seen, transfer) {
  for (const key of Object.keys(value)) {
    const item = copy(value[key], seen, transfer);
    Object.defineProperty(made, key, { value: item, writable: true, configurable: true, enumerable: true });
  }
  return made;
}
