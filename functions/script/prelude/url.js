// URL and URLSearchParams.

import { native, needs, usv, webInterface } from "mayfly:errors";

function parse(text, base) {
  return native.urlParse(usv(text), base === undefined ? null : usv(base)) ?? null;
}

export class URL {
  #href;
  #parts = null;
  #query = null;

  constructor(url, base = undefined) {
    needs(1, arguments.length, "URL");
    this.#href = parse(url, base);
    if (this.#href === null) {
      const against = base === undefined ? "" : `, with the base ${usv(base)}`;
      throw new TypeError(`Invalid URL: ${usv(url)}${against}`);
    }
  }

  static canParse(url, base = undefined) {
    needs(1, arguments.length, "URL.canParse");
    return parse(url, base) !== null;
  }

  static parse(url, base = undefined) {
    needs(1, arguments.length, "URL.parse");
    try {
      return new URL(url, base);
    } catch {
      return null;
    }
  }

  #part(at) {
    this.#parts ??= native.urlParts(this.#href);
    return this.#parts[at];
  }

  #set(part, value) {
    this.#href = native.urlSet(this.#href, part, usv(value));
    this.#parts = null;
    if (this.#query && part !== "hash") this.#query._reload(this.#part(7));
  }

  get href() { return this.#href; }
  set href(value) {
    const href = parse(value);
    if (href === null) throw new TypeError(`Invalid URL: ${usv(value)}`);
    this.#href = href;
    this.#parts = null;
    this.#query?._reload(this.#part(7));
  }

  get protocol() { return this.#part(0); }
  set protocol(value) { this.#set("protocol", value); }
  get username() { return this.#part(1); }
  set username(value) { this.#set("username", value); }
  get password() { return this.#part(2); }
  set password(value) { this.#set("password", value); }
  get host() { return this.#part(3); }
  set host(value) { this.#set("host", value); }
  get hostname() { return this.#part(4); }
  set hostname(value) { this.#set("hostname", value); }
  get port() { return this.#part(5); }
  set port(value) { this.#set("port", value); }
  get pathname() { return this.#part(6); }
  set pathname(value) { this.#set("pathname", value); }
  get search() { return this.#part(7); }
  set search(value) { this.#set("search", value); }
  get hash() { return this.#part(8); }
  set hash(value) { this.#set("hash", value); }
  get origin() { return this.#part(9); }

  get searchParams() {
    this.#query ??= URLSearchParams._of(this.#part(7), (query) => {
      this.#href = native.urlSet(this.#href, "search", query);
      this.#parts = null;
    });
    return this.#query;
  }

  toString() { return this.#href; }
  toJSON() { return this.#href; }
}
webInterface(URL);

export class URLSearchParams {
  // Names and values in turn.
  #list = [];
  #changed = null;

  constructor(init = "") {
    if ((typeof init === "object" && init !== null) || typeof init === "function") {
      const pairs = init[Symbol.iterator];
      if (pairs !== undefined && pairs !== null) {
        for (const pair of init) {
          const both = [...pair];
          if (both.length !== 2) throw new TypeError("URLSearchParams: each pair has a name and a value");
          this.#list.push(usv(both[0]), usv(both[1]));
        }
      } else {
        for (const key of Reflect.ownKeys(init)) {
          if (!Object.getOwnPropertyDescriptor(init, key)?.enumerable) continue;
          if (typeof key === "symbol") throw new TypeError("URLSearchParams: a name is a symbol");
          const name = usv(key);
          const value = usv(init[key]);
          const at = this.#list.findIndex((word, index) => index % 2 === 0 && word === name);
          if (at >= 0) this.#list[at + 1] = value;
          else this.#list.push(name, value);
        }
      }
    } else {
      this._reload(usv(init));
    }
  }

  // Not for scripts: those of a URL.
  static _of(query, changed) {
    const params = new URLSearchParams(query);
    params.#changed = changed;
    return params;
  }

  _reload(query) {
    this.#list = native.formParse(query.startsWith("?") ? query.slice(1) : query);
  }

  #update(list) {
    this.#list = list;
    this.#changed?.(native.formWrite(list));
  }

  get size() { return this.#list.length / 2; }

  append(name, value) {
    needs(2, arguments.length, "append");
    this.#update([...this.#list, usv(name), usv(value)]);
  }

  delete(name, value = undefined) {
    needs(1, arguments.length, "delete");
    const [key, only] = [usv(name), value === undefined ? undefined : usv(value)];
    this.#update(this.#pairs().filter(([n, v]) => n !== key || (only !== undefined && v !== only)).flat());
  }

  get(name) {
    needs(1, arguments.length, "get");
    const key = usv(name);
    for (let at = 0; at < this.#list.length; at += 2) if (this.#list[at] === key) return this.#list[at + 1];
    return null;
  }

  getAll(name) {
    needs(1, arguments.length, "getAll");
    const key = usv(name);
    return this.#pairs().filter(([n]) => n === key).map(([, v]) => v);
  }

  has(name, value = undefined) {
    needs(1, arguments.length, "has");
    const [key, only] = [usv(name), value === undefined ? undefined : usv(value)];
    return this.#pairs().some(([n, v]) => n === key && (only === undefined || v === only));
  }

  set(name, value) {
    needs(2, arguments.length, "set");
    const [key, text] = [usv(name), usv(value)];
    let found = false;
    const kept = this.#pairs().filter((pair) => {
      if (pair[0] !== key) return true;
      if (found) return false;
      found = true;
      pair[1] = text;
      return true;
    });
    if (!found) kept.push([key, text]);
    this.#update(kept.flat());
  }

  sort() {
    const pairs = this.#pairs();
    pairs.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    this.#update(pairs.flat());
  }

  forEach(callback, self = undefined) {
    if (typeof callback !== "function") throw new TypeError("forEach takes a function");
    for (const [name, value] of this) callback.call(self, value, name, this);
  }

  *entries() {
    for (let at = 0; at < this.#list.length; at += 2) yield [this.#list[at], this.#list[at + 1]];
  }

  *keys() { for (const [name] of this.entries()) yield name; }
  *values() { for (const [, value] of this.entries()) yield value; }
  toString() { return native.formWrite(this.#list); }

  #pairs() {
    return [...this.entries()];
  }
}
webInterface(URLSearchParams);
Object.defineProperty(URLSearchParams.prototype, Symbol.iterator, {
  value: URLSearchParams.prototype.entries, writable: true, configurable: true,
});
Object.defineProperty(URLSearchParams.prototype, "_reload", { enumerable: false });
Object.defineProperty(URLSearchParams, "_of", { enumerable: false });
