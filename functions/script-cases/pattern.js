// From the URL Pattern standard.

import { same, throws } from "./check.js";

const groups = (pattern, url) => new URLPattern(pattern).exec(url);
const path = (pathname, text) => groups({ pathname }, `https://a${text}`)?.pathname.groups ?? null;

export default {
  "a fixed path": () => same([path("/a/b", "/a/b"), path("/a/b", "/a/c")], [{}, null]),
  "a name": () => same([path("/u/:id", "/u/5"), path("/u/:id", "/u/5/x"), path("/u/:id", "/u/")], [{ id: "5" }, null, null]),
  "several names": () => same(path("/:a/:b.:c", "/x/y.z"), { a: "x", b: "y", c: "z" }),
  "anything": () => same(path("/a/*", "/a/b/c"), { 0: "b/c" }),
  "an own expression": () => same([path("/:n(\\d+)", "/12"), path("/:n(\\d+)", "/x")], [{ n: "12" }, null]),
  "may be there": () => same([path("/a/:b?", "/a/c"), path("/a/:b?", "/a")?.b === undefined, path("/a/:b?", "/a") !== null], [{ b: "c" }, true, true]),
  "once or more": () => same([path("/a/:b+", "/a/c/d"), path("/a/:b+", "/a")], [{ b: "c/d" }, null]),
  "a group": () => same([path("/a{b}?c", "/ac") !== null, path("/a{b}?c", "/abc") !== null, path("/a{b}?c", "/abbc")], [true, true, null]),
  "an escaped mark": () => same(path("/a\\:b", "/a:b"), {}),
  "a whole URL": () => {
    const found = groups("https://*.example.com/:page\\?q=:q#:h", "https://api.example.com/list?q=1#top");
    same([found.hostname.groups, found.pathname.groups, found.search.groups, found.hash.groups],
      [{ 0: "api" }, { page: "list" }, { q: "1" }, { h: "top" }]);
  },
  "a base": () => same([new URLPattern("/b/:c", "https://a").test("https://a/b/1"), new URLPattern("/b/:c", "https://a").test("https://x/b/1")], [true, false]),
  "test with a base": () => same(new URLPattern({ pathname: "/x" }).test("x", "https://a/"), true),
  "case": () => same([new URLPattern({ pathname: "/A" }).test("https://a/a"), new URLPattern({ pathname: "/A" }, { ignoreCase: true }).test("https://a/a")], [false, true]),
  "its parts": () => {
    const pattern = new URLPattern({ pathname: "/a/:b", protocol: "https" });
    same([pattern.pathname, pattern.protocol, pattern.hostname], ["/a/:b", "https", "*"]);
  },
  "what is no URL": () => same(new URLPattern({ pathname: "/*" }).test("no url"), false),
  "the same name twice": () => throws(() => new URLPattern({ pathname: "/:a/:a" }), "TypeError"),
  "a brace that is not closed": () => throws(() => new URLPattern({ pathname: "/{a" }), "TypeError"),
  "no base for a path": () => throws(() => new URLPattern("/a"), "TypeError"),
};
