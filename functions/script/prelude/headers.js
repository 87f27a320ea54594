// Headers.

import { byteString, needs, webInterface } from "mayfly:errors";

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

function nameOf(name) {
  const text = byteString(name, "a header's name");
  if (!TOKEN.test(text)) throw new TypeError(`"${text}" is no header's name`);
  return text.toLowerCase();
}

function valueOf(value, name) {
  const text = byteString(value, `the header ${name}`).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
  if (/[\0\r\n]/.test(text)) throw new TypeError(`the header ${name} has a line end, or a zero`);
  return text;
}

let internals;

export class Headers {
  // By name, each with all its values.
  #map = new Map();
  #fixed = false;

  constructor(init = undefined) {
    if (init === undefined) return;
    if (init === null || (typeof init !== "object" && typeof init !== "function")) {
      throw new TypeError("Headers are made of pairs or of an object");
    }
    const pairs = init[Symbol.iterator];
    if (pairs !== undefined && pairs !== null) {
      if (typeof pairs !== "function") throw new TypeError("Headers are made of pairs or of an object");
      for (const pair of init) {
        const both = typeof pair === "object" && pair !== null ? [...pair] : [];
        if (both.length !== 2) throw new TypeError("Headers: each pair has a name and a value");
        this.append(both[0], both[1]);
      }
      return;
    }
    for (const key of Reflect.ownKeys(init)) {
      if (!Reflect.getOwnPropertyDescriptor(init, key)?.enumerable) continue;
      if (typeof key === "symbol") throw new TypeError("a header's name is no symbol");
      this.append(key, init[key]);
    }
  }

  static {
    internals = {
      fill(headers, words) {
        for (let at = 0; at < words.length; at += 2) {
          const values = headers.#map.get(words[at]);
          if (values) values.push(words[at + 1]);
          else headers.#map.set(words[at], [words[at + 1]]);
        }
      },
      fix(headers) { headers.#fixed = true; },
      words(headers) {
        const words = [];
        for (const [name, values] of headers.#map) for (const value of values) words.push(name, value);
        return words;
      },
    };
  }

  #change() {
    if (this.#fixed) throw new TypeError("these headers cannot be changed: copy them, as by new Headers(request.headers)");
  }

  append(name, value) {
    needs(2, arguments.length, "append");
    const key = nameOf(name);
    const text = valueOf(value, key);
    this.#change();
    const values = this.#map.get(key);
    if (values) values.push(text);
    else this.#map.set(key, [text]);
  }

  set(name, value) {
    needs(2, arguments.length, "set");
    const key = nameOf(name);
    const text = valueOf(value, key);
    this.#change();
    this.#map.set(key, [text]);
  }

  delete(name) {
    needs(1, arguments.length, "delete");
    const key = nameOf(name);
    this.#change();
    this.#map.delete(key);
  }

  get(name) {
    needs(1, arguments.length, "get");
    return this.#map.get(nameOf(name))?.join(", ") ?? null;
  }

  has(name) {
    needs(1, arguments.length, "has");
    return this.#map.has(nameOf(name));
  }

  getSetCookie() {
    return [...(this.#map.get("set-cookie") ?? [])];
  }

  forEach(callback, self = undefined) {
    if (typeof callback !== "function") throw new TypeError("forEach takes a function");
    for (const [name, value] of this) callback.call(self, value, name, this);
  }

  // Looked at anew in each step, as what iterates may change them.
  *entries() {
    for (let at = 0; ; at++) {
      const sorted = this.#sorted();
      if (at >= sorted.length) return;
      yield sorted[at];
    }
  }

  #sorted() {
    const names = [...this.#map.keys()].sort();
    return names.flatMap((name) => {
      const values = this.#map.get(name);
      return name === "set-cookie" ? values.map((value) => [name, value]) : [[name, values.join(", ")]];
    });
  }

  *keys() { for (const [name] of this.entries()) yield name; }
  *values() { for (const [, value] of this.entries()) yield value; }
}
webInterface(Headers);
Object.defineProperty(Headers.prototype, Symbol.iterator, {
  value: Headers.prototype.entries, writable: true, configurable: true,
});

// Those of a request, which come as names and values in turn and may not be changed.
export function headersOf(words) {
  const headers = new Headers();
  internals.fill(headers, words);
  internals.fix(headers);
  return headers;
}

export const headerWords = (headers) => internals.words(headers);
export const fixHeaders = (headers) => internals.fix(headers);
