// From the URL standard: each spelling, and what becomes of it.

import { same, throws } from "./check.js";

const parse = (input, base, href) => () => same(new URL(input, base).href, href);
const fails = (input, base) => () => throws(() => new URL(input, base), "TypeError");
const part = (input, name, value) => () => same(new URL(input)[name], value);
const set = (input, name, value, href) => () => {
  const url = new URL(input);
  url[name] = value;
  same(url.href, href);
};
const params = (init, text) => () => same(`${new URLSearchParams(init)}`, text);

export default {
  "host in capitals": parse("HTTP://EXAMPLE.com/A", undefined, "http://example.com/A"),
  "default port goes": parse("https://a:443/", undefined, "https://a/"),
  "other port stays": parse("https://a:80/", undefined, "https://a:80/"),
  "dots go": parse("http://a/b/../c/./d", undefined, "http://a/c/d"),
  "encoded dots go": parse("http://a/b/%2e%2E/c", undefined, "http://a/c"),
  "backslashes are slashes": parse("http:\\\\a\\b", undefined, "http://a/b"),
  "spaces around go": parse("  http://a/  ", undefined, "http://a/"),
  "tabs and lines go": parse("ht\ntp://a\t/b", undefined, "http://a/b"),
  "space in a path": parse("http://a/b c", undefined, "http://a/b%20c"),
  "umlaut in a path": parse("http://a/ü", undefined, "http://a/%C3%BC"),
  "umlaut in a host": parse("http://müller.example/", undefined, "http://xn--mller-kva.example/"),
  "emoji in a host": parse("http://☃.net/", undefined, "http://xn--n3h.net/"),
  "quote in a query": parse("http://a/?q='\"", undefined, "http://a/?q=%27%22"),
  "number as a host": parse("http://2130706433/", undefined, "http://127.0.0.1/"),
  "octal and hex in a host": parse("http://0x7f.1/", undefined, "http://127.0.0.1/"),
  "IPv6 is shortened": parse("http://[1:0:0:0:0:0:0:1]/", undefined, "http://[1::1]/"),
  "user and password": parse("http://u@r:p%40s@h/", undefined, "http://u%40r:p%40s@h/"),
  "empty query stays": parse("http://a/?", undefined, "http://a/?"),
  "file": parse("file:///C|/x/../y", undefined, "file:///C:/y"),
  "opaque path": parse("mailto:a@b.c", undefined, "mailto:a@b.c"),
  "relative path": parse("../x?y#z", "http://a/b/c/d", "http://a/b/x?y#z"),
  "relative to a query": parse("?y", "http://a/b?x", "http://a/b?y"),
  "relative to a hash": parse("#z", "http://a/b?x#y", "http://a/b?x#z"),
  "relative protocol": parse("//b/c", "https://a/", "https://b/c"),
  "nothing, relative": parse("", "http://a/b?c#d", "http://a/b?c"),
  "no base": fails("/a"),
  "no host": fails("http://"),
  "space in a host": fails("http://a b/"),
  "port too large": fails("http://a:65536/"),
  "port no number": fails("http://a:b/"),
  "IPv6 broken": fails("http://[::1"),
  "percent in a host": fails("http://a%00b/"),
  "number too large as a host": fails("http://256.256.256.256/"),
  "relative to an opaque base": fails("x", "mailto:a@b.c"),
  "origin": part("https://u:p@a:8443/b", "origin", "https://a:8443"),
  "origin of a file": part("file:///a", "origin", "null"),
  "protocol": part("https://a/", "protocol", "https:"),
  "host": part("https://a:8443/", "host", "a:8443"),
  "search of an empty query": part("http://a/?", "search", ""),
  "hash": part("http://a/#b", "hash", "#b"),
  "username": part("http://ab@c/", "username", "ab"),
  "set protocol": set("http://a/b", "protocol", "https", "https://a/b"),
  "set protocol of another kind": set("http://a/b", "protocol", "mailto", "http://a/b"),
  "set host": set("http://a/b", "host", "c:81", "http://c:81/b"),
  "set hostname": set("http://a:81/b", "hostname", "c", "http://c:81/b"),
  "set port": set("http://a/", "port", "8080x", "http://a:8080/"),
  "set port to none": set("http://a:81/", "port", "", "http://a/"),
  "set pathname": set("http://a/b?c", "pathname", "d e", "http://a/d%20e?c"),
  "set search": set("http://a/b?c", "search", "d=é", "http://a/b?d=%C3%A9"),
  "set hash": set("http://a/b", "hash", "x y", "http://a/b#x%20y"),
  "set hash to none": set("http://a/b#c", "hash", "", "http://a/b"),
  "set username": set("http://a/", "username", "ü:", "http://%C3%BC%3A@a/"),
  "set href": set("http://a/", "href", "http://b/../c", "http://b/c"),
  "set a bad href": () => throws(() => { new URL("http://a").href = "x"; }, "TypeError"),
  "canParse": () => same([URL.canParse("http://a"), URL.canParse("a"), URL.canParse("a", "http://b")], [true, false, true]),
  "parse": () => same([URL.parse("a"), URL.parse("a", "http://b").href], [null, "http://b/a"]),
  "toJSON": () => same(JSON.stringify({ u: new URL("http://a") }), '{"u":"http://a/"}'),
  "searchParams and search are one": () => {
    const url = new URL("http://a/?b=1");
    url.searchParams.append("c", "2 3");
    const first = url.href;
    url.search = "?d=4";
    same([first, url.searchParams.get("d"), url.searchParams.size], ["http://a/?b=1&c=2+3", "4", 1]);
  },
  "params without any leave no mark": () => {
    const url = new URL("http://a/?b=1");
    url.searchParams.delete("b");
    same(url.href, "http://a/");
  },
  "params of text": params("?a=1&b=2&a=3", "a=1&b=2&a=3"),
  "params of pairs": params([["a", "1"], ["b", "&="]], "a=1&b=%26%3D"),
  "params of an object": params({ a: 1, b: "c d" }, "a=1&b=c+d"),
  "params with plus and percent": () => same([...new URLSearchParams("a=b+c&d=%zz&e&=f")], [["a", "b c"], ["d", "%zz"], ["e", ""], ["", "f"]]),
  "params keep some marks": params([["a", "*-._ ~!'()"]], "a=*-._+%7E%21%27%28%29"),
  "params with what is no text": params([["a", "\ud800"]], "a=%EF%BF%BD"),
  "params of a pair of three": () => throws(() => new URLSearchParams([["a", "b", "c"]]), "TypeError"),
  "params set": () => {
    const some = new URLSearchParams("a=1&b=2&a=3");
    some.set("a", "4");
    same(`${some}`, "a=4&b=2");
  },
  "params delete and has a value": () => {
    const some = new URLSearchParams("a=1&a=2");
    some.delete("a", "1");
    same([`${some}`, some.has("a", "1"), some.has("a", "2"), some.getAll("a")], ["a=2", false, true, ["2"]]);
  },
  "params sort by units and keep order": () => {
    const some = new URLSearchParams("z=b&ﬃ&🌈&a=b&z=a");
    some.sort();
    same([...some.keys()], ["a", "z", "z", "🌈", "ﬃ"]);
  },
};
