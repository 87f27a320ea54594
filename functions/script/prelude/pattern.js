// URLPattern.

import { usv, webInterface } from "mayfly:errors";
import { URL } from "mayfly:url";
import { parsePattern, toPattern, toRegexp, tokenize } from "mayfly:pattern-parse";

const PARTS = ["protocol", "username", "password", "hostname", "port", "pathname", "search", "hash"];
const SPECIAL = ["http", "https", "ws", "wss", "ftp", "file"];
const PORTS = { http: "80", https: "443", ws: "80", wss: "443", ftp: "21" };

// What a fixed piece of each part becomes, as a URL has it.
function through(part, text, set) {
  const url = new URL("https://dummy.invalid/");
  set(url);
  return url[part];
}

const encoders = {
  protocol: (text) => {
    if (!/^[a-z][a-z0-9+.-]*$/i.test(text)) throw new TypeError(`URLPattern: "${text}" is no protocol`);
    return text.toLowerCase();
  },
  username: (text) => through("username", text, (url) => { url.username = text; }),
  password: (text) => through("password", text, (url) => { url.password = text; }),
  hostname: (text) => {
    if (/[\s#%/<>?@\\^|]/.test(text)) throw new TypeError(`URLPattern: "${text}" is no host's name`);
    return through("hostname", text, (url) => { url.hostname = text; });
  },
  port: (text) => {
    if (!/^\d{1,5}$/.test(text) || Number(text) > 65535) throw new TypeError(`URLPattern: "${text}" is no port`);
    return `${Number(text)}`;
  },
  pathname: (text) => {
    // Without the slash that a URL would put before it.
    const slash = text.startsWith("/");
    const path = through("pathname", text, (url) => { url.pathname = slash ? text : `/-${text}`; });
    return slash ? path : path.slice(2);
  },
  opaque: (text) => new URL(`data:${text}`).pathname,
  search: (text) => through("search", text, (url) => { url.search = text; }).slice(1),
  hash: (text) => through("hash", text, (url) => { url.hash = text; }).slice(1),
};

const OPTIONS = {
  hostname: { delimiter: ".", prefix: "" },
  pathname: { delimiter: "/", prefix: "/" },
};
const NONE = { delimiter: "", prefix: "" };

// A pattern for a whole URL, taken apart: each part from the mark that begins it.
function splitPattern(input) {
  const tokens = tokenize(input, true);
  const points = [...input];
  const result = {};
  let depth = 0;
  let from = 0;
  let state = "init";
  const text = (a, b) => points.slice(a, b).join("");
  const is = (at, value) => tokens[at]?.value === value && ["char", "escaped-char", "invalid-char"].includes(tokens[at].type);
  const isSearch = (at) => {
    if (is(at, "?")) return true;
    if (tokens[at].value !== "?" || tokens[at].type !== "other-modifier") return false;
    const before = tokens[at - 1];
    return !before || !["name", "regexp", "close", "asterisk"].includes(before.type);
  };
  const change = (next, at, skip) => {
    if (state !== "init") result[state] = text(from, tokens[at]?.index ?? points.length);
    state = next;
    from = (tokens[at]?.index ?? points.length) + skip;
  };
  const isUrl = tokens.some((token, at) => is(at, ":") || token.type === "invalid-char" && token.value === ":")
    && /^[^/?#]*:/.test(input.replace(/\{|\}|\(.*?\)/g, "")) && hasProtocol(tokens, is);
  let at = 0;
  if (!isUrl) {
    state = tokens[0].type !== "end" && isSearch(0) ? "search" : is(0, "#") ? "hash" : "pathname";
    if (state !== "pathname") {
      from = 1;
      at = 1;
    }
  } else {
    state = "protocol";
  }
  let brackets = 0;
  for (; at < tokens.length && tokens[at].type !== "end"; at++) {
    const token = tokens[at];
    if (token.type === "open") { depth++; continue; }
    if (token.type === "close") { depth--; continue; }
    if (depth > 0) continue;
    if (state === "protocol" && is(at, ":")) {
      const slashes = is(at + 1, "/") && is(at + 2, "/");
      const named = text(0, token.index);
      const special = SPECIAL.some((one) => matchesProtocol(named, one));
      if (slashes) {
        change("authority", at, 3);
        at += 2;
      } else {
        change(special ? "authority" : "pathname", at, 1);
      }
      continue;
    }
    if (state === "authority") {
      // A name and a password end at an @ that comes before the path.
      let end = at;
      while (tokens[end].type !== "end" && !is(end, "/") && !is(end, "#") && !isSearch(end) && !is(end, "@")) end++;
      state = is(end, "@") ? "username" : "hostname";
    }
    if (state === "username" && is(at, ":")) { change("password", at, 1); continue; }
    if ((state === "username" || state === "password") && is(at, "@")) { change("hostname", at, 1); continue; }
    if (state === "hostname") {
      if (is(at, "[")) brackets++;
      else if (is(at, "]")) brackets--;
      else if (is(at, ":") && brackets === 0) { change("port", at, 1); continue; }
    }
    if ((state === "hostname" || state === "port") && is(at, "/")) { change("pathname", at, 0); continue; }
    if (state !== "search" && state !== "hash" && isSearch(at)) { change("search", at, 1); continue; }
    if (state !== "hash" && is(at, "#")) { change("hash", at, 1); continue; }
  }
  if (state === "authority") state = "hostname";
  change("done", tokens.length, 0);
  // What comes after a part that was said is anything; what comes before it is the base's.
  if (result.hostname !== undefined && result.port === undefined) result.port = "";
  return result;
}

const matchesProtocol = (pattern, protocol) => {
  try {
    return toRegexp(parsePattern(pattern, NONE, encoders.protocol), false).regexp.test(protocol);
  } catch {
    return false;
  }
};

// Whether a colon ends a protocol: one outside of braces, before any slash.
function hasProtocol(tokens, is) {
  let depth = 0;
  for (let at = 0; tokens[at].type !== "end"; at++) {
    if (tokens[at].type === "open") depth++;
    else if (tokens[at].type === "close") depth--;
    else if (depth === 0 && is(at, ":")) return true;
    else if (depth === 0 && (is(at, "/") || is(at, "#"))) return false;
  }
  return false;
}

const escape = (text) => text.replace(/[+*?:{}()\\]/g, "\\$&");

function fromInit(init, base) {
  const parts = {};
  if (base !== undefined) {
    const url = new URL(base);
    const said = PARTS.findIndex((part) => init[part] !== undefined);
    const later = (part) => said >= 0 && said < PARTS.indexOf(part) + 1 && init[part] === undefined;
    const inherited = {
      protocol: url.protocol.slice(0, -1), hostname: url.hostname, port: url.port, pathname: url.pathname,
      search: url.search.slice(1), hash: url.hash.slice(1),
    };
    for (const [part, value] of Object.entries(inherited)) if (!later(part)) parts[part] = escape(value);
  }
  for (const part of PARTS) if (init[part] !== undefined) parts[part] = usv(init[part]);
  if (parts.protocol !== undefined) parts.protocol = parts.protocol.replace(/:$/, "");
  if (parts.search !== undefined && init.search !== undefined) parts.search = parts.search.replace(/^\?/, "");
  if (parts.hash !== undefined && init.hash !== undefined) parts.hash = parts.hash.replace(/^#/, "");
  if (base !== undefined && init.pathname !== undefined && !/^[/{*(:]/.test(parts.pathname)) {
    const path = new URL(base).pathname;
    parts.pathname = escape(path.slice(0, path.lastIndexOf("/") + 1)) + parts.pathname;
  }
  return parts;
}

export class URLPattern {
  #parts = {};
  #ignoreCase;

  constructor(input = {}, baseOrOptions = undefined, given = undefined) {
    const isBase = typeof baseOrOptions === "string" || baseOrOptions instanceof URL;
    const base = isBase ? usv(baseOrOptions) : undefined;
    this.#ignoreCase = !!(isBase ? given : baseOrOptions)?.ignoreCase;
    let init;
    if (typeof input === "object" && input !== null && !(input instanceof URL)) {
      if (base !== undefined) throw new TypeError("URLPattern: an object has its base in baseURL");
      init = fromInit(input, input.baseURL === undefined ? undefined : usv(input.baseURL));
    } else {
      const split = splitPattern(usv(input));
      if (base === undefined && split.protocol === undefined) {
        throw new TypeError(`URLPattern: "${usv(input)}" has no protocol, and there is no base`);
      }
      init = fromInit(split, base);
    }
    const special = init.protocol === undefined || SPECIAL.some((one) => matchesProtocol(init.protocol, one));
    if (PORTS[init.protocol] !== undefined && PORTS[init.protocol] === init.port) init.port = "";
    for (const part of PARTS) {
      const opaque = part === "pathname" && !special;
      const options = opaque ? NONE : OPTIONS[part] ?? NONE;
      const parsed = parsePattern(init[part] ?? "*", options, (text) => (text ? encoders[opaque ? "opaque" : part](text) : ""));
      this.#parts[part] = { ...toRegexp(parsed, this.#ignoreCase), parsed, pattern: toPattern(parsed, options) };
    }
  }

  get hasRegExpGroups() {
    return PARTS.some((part) => this.#parts[part].parsed.parts.some((one) => one.type === "regexp"));
  }

  test(input = {}, base = undefined) { return this.#match(input, base) !== null; }
  exec(input = {}, base = undefined) { return this.#match(input, base); }

  #match(input, base) {
    const values = valuesOf(input, base);
    if (values === null) return null;
    const result = { inputs: base === undefined ? [input] : [input, base] };
    for (const part of PARTS) {
      const { regexp, names } = this.#parts[part];
      const found = regexp.exec(values[part]);
      if (found === null) return null;
      const groups = {};
      names.forEach((name, at) => { groups[name] = found[at + 1]; });
      result[part] = { input: values[part], groups };
    }
    return result;
  }

  static _pattern(pattern, part) { return pattern.#parts[part].pattern; }
}
const patternOf = URLPattern._pattern;
delete URLPattern._pattern;
for (const part of PARTS) {
  Object.defineProperty(URLPattern.prototype, part, { get() { return patternOf(this, part); }, configurable: true });
}
webInterface(URLPattern);

// The parts of what is to be matched; nothing for what is no URL.
function valuesOf(input, base) {
  try {
    if (typeof input === "object" && input !== null && !(input instanceof URL)) {
      if (base !== undefined) throw new TypeError("URLPattern: an object has its base in baseURL");
      const url = input.baseURL === undefined ? null : new URL(input.baseURL);
      const values = Object.fromEntries(PARTS.map((part) => [part, url ? plain(url, part) : ""]));
      for (const part of PARTS) {
        if (input[part] === undefined) continue;
        const text = usv(input[part]);
        const trimmed = part === "protocol" ? text.replace(/:$/, "") : part === "search" ? text.replace(/^\?/, "")
          : part === "hash" ? text.replace(/^#/, "") : text;
        values[part] = trimmed === "" ? "" : encoders[part](trimmed);
        if (part === "pathname" && url && !values.pathname.startsWith("/")) {
          values.pathname = new URL(trimmed, url).pathname;
        }
      }
      if (PORTS[values.protocol] === values.port) values.port = "";
      return values;
    }
    const url = new URL(input, base);
    return Object.fromEntries(PARTS.map((part) => [part, plain(url, part)]));
  } catch (error) {
    if (base !== undefined && typeof input === "object" && !(input instanceof URL)) throw error;
    return null;
  }
}

function plain(url, part) {
  const value = url[part];
  if (part === "protocol") return value.slice(0, -1);
  return part === "search" || part === "hash" ? value.slice(1) : value;
}
