// A pattern of one part of a URL: its tokens, its parts, and the regular expression that they make.

const NAME_START = /[$_\p{ID_Start}]/u;
const NAME_PART = /[$_\u200c\u200d\p{ID_Continue}]/u;

// Tokens as the standard has them: type, where it begins, and its value.
export function tokenize(input, lenient) {
  const points = [...input];
  const tokens = [];
  let at = 0;
  const add = (type, from, to, value) => {
    tokens.push({ type, index: from, value });
    at = to;
  };
  const invalid = (from, to) => {
    if (!lenient) throw new TypeError(`URLPattern: "${input}" is no pattern, from character ${from} on`);
    add("invalid-char", from, to, points.slice(from, to).join(""));
  };
  while (at < points.length) {
    const from = at;
    const point = points[at];
    if (point === "*") add("asterisk", from, from + 1, point);
    else if (point === "+" || point === "?") add("other-modifier", from, from + 1, point);
    else if (point === "\\") {
      if (at === points.length - 1) invalid(from, from + 1);
      else add("escaped-char", from, from + 2, points[from + 1]);
    } else if (point === "{") add("open", from, from + 1, point);
    else if (point === "}") add("close", from, from + 1, point);
    else if (point === ":") {
      let to = from + 1;
      while (to < points.length && (to === from + 1 ? NAME_START : NAME_PART).test(points[to])) to++;
      if (to === from + 1) invalid(from, to);
      else add("name", from, to, points.slice(from + 1, to).join(""));
    } else if (point === "(") {
      const to = regexpEnd(points, from);
      if (to < 0) invalid(from, from + 1);
      else add("regexp", from, to, points.slice(from + 1, to - 1).join(""));
    } else add("char", from, from + 1, point);
  }
  tokens.push({ type: "end", index: points.length, value: "" });
  return tokens;
}

// Where a group in parentheses ends; -1 for one that is none.
function regexpEnd(points, from) {
  let depth = 1;
  let at = from + 1;
  for (; at < points.length; at++) {
    const point = points[at];
    if (point > "\x7f" || (at === from + 1 && point === "?")) return -1;
    if (point === "\\") {
      if (at === points.length - 1 || points[at + 1] > "\x7f") return -1;
      at++;
    } else if (point === ")") {
      if (--depth === 0) return at === from + 1 ? -1 : at + 1;
    } else if (point === "(") {
      depth++;
      if (points[at + 1] !== "?") return -1;
    }
  }
  return -1;
}

const escapeRegexp = (text) => text.replace(/[.+*?^${}()[\]|/\\]/g, "\\$&");

// Parts: what is fixed, and what is matched, with prefix, suffix and modifier.
export function parsePattern(input, options, encode) {
  const segment = `[^${options.delimiter ? escapeRegexp(options.delimiter) : ""}]+?`;
  const segmentWildcard = options.delimiter ? segment : ".+?";
  const tokens = tokenize(input, false);
  const parts = [];
  const names = new Set();
  let at = 0;
  let fixed = "";
  let nextName = 0;
  const take = (...types) => (types.includes(tokens[at].type) ? tokens[at++] : null);
  const flush = () => {
    if (fixed) parts.push({ type: "fixed", value: encode(fixed), modifier: "" });
    fixed = "";
  };
  const modifier = () => (take("other-modifier", "asterisk") ?? { value: "" }).value;
  const addPart = (prefix, name, regexp, suffix, mark) => {
    if (!name && !regexp && mark === "") {
      fixed += prefix;
      return;
    }
    flush();
    if (!name && !regexp) {
      if (prefix) parts.push({ type: "fixed", value: encode(prefix), modifier: mark });
      return;
    }
    let value = regexp ? (regexp.type === "asterisk" ? ".*" : regexp.value) : segmentWildcard;
    let type = "regexp";
    if (value === segmentWildcard) [type, value] = ["segment", ""];
    else if (value === ".*") [type, value] = ["full", ""];
    const own = name ? name.value : nextName++;
    if (names.has(`${own}`)) throw new TypeError(`URLPattern: the name "${own}" is there twice`);
    names.add(`${own}`);
    parts.push({ type, value, modifier: mark, name: `${own}`, prefix: encode(prefix), suffix: encode(suffix) });
  };
  const text = () => {
    let all = "";
    for (let token; (token = take("char", "escaped-char")); ) all += token.value;
    return all;
  };
  while (at < tokens.length) {
    const char = take("char");
    let name = take("name");
    let regexp = take("regexp") ?? (name ? null : take("asterisk"));
    if (name || regexp) {
      let prefix = char?.value ?? "";
      if (prefix && prefix !== options.prefix) {
        fixed += prefix;
        prefix = "";
      }
      flush();
      addPart(prefix, name, regexp, "", modifier());
      continue;
    }
    const plain = char ?? take("escaped-char");
    if (plain) {
      fixed += plain.value;
      continue;
    }
    if (take("open")) {
      const prefix = text();
      name = take("name");
      regexp = take("regexp") ?? (name ? null : take("asterisk"));
      const suffix = text();
      if (!take("close")) throw new TypeError(`URLPattern: a brace of "${input}" is not closed`);
      addPart(prefix, name, regexp, suffix, modifier());
      continue;
    }
    flush();
    if (!take("end")) throw new TypeError(`URLPattern: "${tokens[at].value}" stands where it cannot in "${input}"`);
  }
  return { parts, segmentWildcard };
}

// The regular expression of parts, and the names of its groups.
export function toRegexp({ parts, segmentWildcard }, ignoreCase) {
  let source = "^";
  const names = [];
  for (const part of parts) {
    if (part.type === "fixed") {
      const text = escapeRegexp(part.value);
      source += part.modifier ? `(?:${text})${part.modifier}` : text;
      continue;
    }
    names.push(part.name);
    const value = part.type === "segment" ? segmentWildcard : part.type === "full" ? ".*" : part.value;
    const [prefix, suffix] = [escapeRegexp(part.prefix), escapeRegexp(part.suffix)];
    if (!prefix && !suffix) {
      source += part.modifier === "" || part.modifier === "?" ? `(${value})${part.modifier}` : `((?:${value})${part.modifier})`;
    } else if (part.modifier === "" || part.modifier === "?") {
      source += `(?:${prefix}(${value})${suffix})${part.modifier}`;
    } else {
      source += `(?:${prefix}((?:${value})(?:${suffix}${prefix}(?:${value}))*)${suffix})${part.modifier === "*" ? "?" : ""}`;
    }
  }
  return { regexp: new RegExp(`${source}$`, ignoreCase ? "vi" : "v"), names };
}

const escapePattern = (text) => text.replace(/[+*?:{}()\\]/g, "\\$&");

// The pattern's one spelling.
export function toPattern({ parts, segmentWildcard }, options) {
  let out = "";
  parts.forEach((part, index) => {
    if (part.type === "fixed") {
      out += part.modifier ? `{${escapePattern(part.value)}}${part.modifier}` : escapePattern(part.value);
      return;
    }
    const previous = parts[index - 1];
    const next = parts[index + 1];
    const custom = !/^\d/.test(part.name);
    let group = part.suffix !== "" || (part.prefix !== "" && part.prefix !== options.prefix);
    if (!group && custom && part.type === "segment" && part.modifier === "" && next && !next.prefix && !next.suffix) {
      group = next.type === "fixed" ? NAME_PART.test([...next.value][0] ?? "") : /^\d/.test(next.name);
    }
    if (!group && part.prefix === "" && previous?.type === "fixed" && previous.value.endsWith(options.prefix || "\0")) group = true;
    if (group) out += "{";
    out += escapePattern(part.prefix);
    if (custom) out += `:${part.name}`;
    if (part.type === "regexp") out += `(${part.value})`;
    else if (part.type === "segment" && !custom) out += `(${segmentWildcard})`;
    else if (part.type === "full") {
      const bare = !custom && (!previous || previous.type === "fixed" || previous.modifier !== "" || group || part.prefix !== "");
      out += bare ? "*" : "(.*)";
    }
    if (part.type === "segment" && custom && part.suffix && NAME_PART.test([...part.suffix][0])) out += "\\";
    out += escapePattern(part.suffix);
    if (group) out += "}";
    out += part.modifier;
  });
  return out;
}
