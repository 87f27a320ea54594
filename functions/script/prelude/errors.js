// DOMException, and what the other files share: the natives, and conversions as Web IDL has them.

export const native = globalThis.__native;
delete globalThis.__native;

const CODES = {
  IndexSizeError: 1, HierarchyRequestError: 3, WrongDocumentError: 4, InvalidCharacterError: 5,
  NoModificationAllowedError: 7, NotFoundError: 8, NotSupportedError: 9, InUseAttributeError: 10, InvalidStateError: 11,
  SyntaxError: 12, InvalidModificationError: 13, NamespaceError: 14, InvalidAccessError: 15, TypeMismatchError: 17,
  SecurityError: 18, NetworkError: 19, AbortError: 20, URLMismatchError: 21, QuotaExceededError: 22, TimeoutError: 23,
  InvalidNodeTypeError: 24, DataCloneError: 25,
};

export class DOMException extends Error {
  #name;

  constructor(message = "", options = "Error") {
    super(`${message}`);
    const named = typeof options === "object" && options !== null;
    this.#name = `${(named ? options.name : options) ?? "Error"}`;
    if (named && "cause" in options) {
      Object.defineProperty(this, "cause", { value: options.cause, configurable: true, writable: true });
    }
  }

  get name() {
    return this.#name;
  }

  get code() {
    return CODES[this.#name] ?? 0;
  }

  get [Symbol.toStringTag]() {
    return "DOMException";
  }
}

for (const [name, code] of Object.entries(CODES)) {
  const constant = `${name.replace(/Error$/, "").replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase()}_ERR`;
  for (const holder of [DOMException, DOMException.prototype]) {
    Object.defineProperty(holder, constant, { value: code, enumerable: true });
  }
}

// A string without halves of characters.
export const usv = (value) => `${value}`.toWellFormed();

// A string with a byte for each character.
export function byteString(value, what) {
  const text = `${value}`;
  for (let at = 0; at < text.length; at++) {
    if (text.charCodeAt(at) > 255) throw new TypeError(`${what}: a character at ${at} is no byte`);
  }
  return text;
}

export const isBufferSource = (value) => value instanceof ArrayBuffer || ArrayBuffer.isView(value);

// The bytes that a buffer, or a view of one, has.
export function bytesOf(source) {
  if (source instanceof Uint8Array) return source;
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  throw new TypeError("not an ArrayBuffer, nor a view of one");
}

export function needs(count, given, what) {
  if (given < count) throw new TypeError(`${what} needs ${count} argument${count > 1 ? "s" : ""}, ${given} given`);
}

// Shows up in Object.prototype.toString, and makes what a class declares enumerable, as interfaces of the web are.
export function webInterface(type, name = type.name) {
  Object.defineProperty(type.prototype, Symbol.toStringTag, { value: name, configurable: true });
  for (const key of Object.getOwnPropertyNames(type.prototype)) {
    if (key === "constructor") continue;
    Object.defineProperty(type.prototype, key, { enumerable: true });
  }
}

// What is made without its constructor being a public one.
export const INTERNAL = Symbol("internal");
