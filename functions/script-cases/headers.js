// From the Fetch standard: Headers.

import { same, throws } from "./check.js";

const all = (init) => [...new Headers(init)];

export default {
  "names are lower and sorted": () => same(all({ B: "1", a: "2" }), [["a", "2"], ["b", "1"]]),
  "values are joined": () => same(all([["a", "1"], ["A", "2"]]), [["a", "1, 2"]]),
  "spaces around a value go": () => same(new Headers({ a: " \t1 2\n" }).get("a"), "1 2"),
  "cookies are not joined": () => {
    const headers = new Headers([["set-cookie", "a=1"], ["Set-Cookie", "b=2"]]);
    same([headers.getSetCookie(), [...headers]], [["a=1", "b=2"], [["set-cookie", "a=1"], ["set-cookie", "b=2"]]]);
  },
  "set, has, delete": () => {
    const headers = new Headers({ a: "1" });
    headers.append("a", "2");
    headers.set("A", "3");
    const had = headers.has("a");
    headers.delete("A");
    same([had, headers.has("a"), headers.get("a")], [true, false, null]);
  },
  "a copy": () => {
    const first = new Headers({ a: "1" });
    const other = new Headers(first);
    other.set("a", "2");
    same([first.get("a"), other.get("a")], ["1", "2"]);
  },
  "a bad name": () => throws(() => new Headers({ "a b": "1" }), "TypeError"),
  "an empty name": () => throws(() => new Headers().append("", "1"), "TypeError"),
  "a line end in a value": () => throws(() => new Headers({ a: "1\r\nb: 2" }), "TypeError"),
  "a zero in a value": () => throws(() => new Headers().set("a", "\0"), "TypeError"),
  "a character that is no byte": () => throws(() => new Headers({ a: "€" }), "TypeError"),
  "a pair of one": () => throws(() => new Headers([["a"]]), "TypeError"),
  "a number": () => throws(() => new Headers(1), "TypeError"),
  "null": () => throws(() => new Headers(null), "TypeError"),
  "values are made text": () => same(new Headers({ a: 1, b: null }).get("b"), "null"),
  "forEach": () => {
    const seen = [];
    new Headers({ b: "1", a: "2" }).forEach((value, name, own) => seen.push(name, value, own instanceof Headers));
    same(seen, ["a", "2", true, "b", "1", true]);
  },
  "changed while they are gone through": () => {
    const headers = new Headers({ a: "1", c: "3" });
    const seen = [];
    for (const [name] of headers) {
      seen.push(name);
      if (name === "a") headers.append("b", "2");
    }
    same(seen, ["a", "b", "c"]);
  },
  "its name": () => same(Object.prototype.toString.call(new Headers()), "[object Headers]"),
};
