// From the Fetch standard: Request, Response, and their bodies.

import { rejects, same, throws } from "./check.js";

const kind = (body) => new Response(body).headers.get("content-type");
const stream = (...chunks) => new ReadableStream({
  start(controller) {
    for (const chunk of chunks) controller.enqueue(new TextEncoder().encode(chunk));
    controller.close();
  },
});

export default {
  "types of bodies": () => same(
    [kind("a"), kind(new URLSearchParams("a=1")), kind(new Blob(["a"], { type: "x/y" })), kind(new Uint8Array(1)), kind(null)],
    ["text/plain;charset=UTF-8", "application/x-www-form-urlencoded;charset=UTF-8", "x/y", null, null]),
  "text": async () => same(await new Response("é").text(), "é"),
  "json": async () => same(await new Response('\ufeff{"a":[1]}').json(), { a: [1] }),
  "bad json": () => rejects(new Response("{").json(), "SyntaxError"),
  "arrayBuffer": async () => same([...new Uint8Array(await new Response("ab").arrayBuffer())], [97, 98]),
  "bytes": async () => same([...await new Response("ab").bytes()], [97, 98]),
  "blob": async () => {
    const blob = await new Response("ab", { headers: { "content-type": "a/b" } }).blob();
    same([blob.size, blob.type, await blob.text()], [2, "a/b", "ab"]);
  },
  "a stream's text": async () => same(await new Response(stream("a", "", "b").pipeThrough(new TransformStream())).text(), "ab"),
  "read twice": async () => {
    const response = new Response("a");
    await response.text();
    same(response.bodyUsed, true);
    await rejects(response.text(), "TypeError");
  },
  "a body that is locked": async () => {
    const response = new Response(stream("a"));
    response.body.getReader();
    await rejects(response.text(), "TypeError");
  },
  "no body": async () => {
    const response = new Response();
    same([response.body, await response.text(), response.bodyUsed], [null, "", false]);
  },
  "clone": async () => {
    const response = new Response(stream("a", "b"), { status: 201, headers: { x: "1" } });
    const other = response.clone();
    same([await response.text(), await other.text(), other.status, other.headers.get("x")], ["ab", "ab", 201, "1"]);
  },
  "clone of what was read": async () => {
    const response = new Response("a");
    await response.text();
    throws(() => response.clone(), "TypeError");
  },
  "Response.json": async () => {
    const response = Response.json({ a: 1 }, { status: 202 });
    same([response.status, response.headers.get("content-type"), await response.text()], [202, "application/json", '{"a":1}']);
  },
  "Response.json of nothing": () => throws(() => Response.json(undefined), "TypeError"),
  "Response.redirect": () => {
    const response = Response.redirect("https://a/b", 301);
    same([response.status, response.headers.get("location")], [301, "https://a/b"]);
  },
  "a redirect with another status": () => throws(() => Response.redirect("https://a/", 200), "RangeError"),
  "Response.error": () => same([Response.error().type, Response.error().status], ["error", 0]),
  "status out of range": () => throws(() => new Response("", { status: 99 }), "RangeError"),
  "204 has no body": () => throws(() => new Response("a", { status: 204 }), "TypeError"),
  "ok": () => same([200, 299, 300, 404].map((status) => new Response(null, { status }).ok), [true, true, false, false]),
  "statusText": () => same(new Response(null, { statusText: "Fine" }).statusText, "Fine"),
  "a request's parts": () => {
    const request = new Request("http://a/b c", { method: "post", headers: { X: "1" }, body: "z" });
    same([request.url, request.method, request.headers.get("x"), request.redirect], ["http://a/b%20c", "POST", "1", "follow"]);
  },
  "patch keeps its letters": () => same(new Request("http://a", { method: "patch" }).method, "patch"),
  "GET has no body": () => throws(() => new Request("http://a", { body: "a" }), "TypeError"),
  "a bad method": () => throws(() => new Request("http://a", { method: "TRACE" }), "TypeError"),
  "a URL with a password": () => throws(() => new Request("http://u:p@a/"), "TypeError"),
  "a bad URL": () => throws(() => new Request("http://"), "TypeError"),
  "a request of a request": async () => {
    const first = new Request("http://a", { method: "POST", body: "x", headers: { b: "1" } });
    const other = new Request(first, { headers: { c: "2" } });
    same([first.bodyUsed, await other.text(), other.headers.get("b"), other.headers.get("c")], [true, "x", null, "2"]);
  },
  "a request's clone": async () => {
    const first = new Request("http://a", { method: "PUT", body: "x" });
    const other = first.clone();
    same([await first.text(), await other.text(), other.method], ["x", "x", "PUT"]);
  },
  "a request's signal": () => {
    const controller = new AbortController();
    const request = new Request("http://a", { signal: controller.signal });
    controller.abort();
    same(request.signal.aborted, true);
  },
  "a stream that has something else in it": () => rejects(new Response(new ReadableStream({
    start(controller) {
      controller.enqueue("text");
      controller.close();
    },
  })).text(), "TypeError"),
  "a stream that fails": () => rejects(new Response(new ReadableStream({
    pull() { throw new RangeError("x"); },
  })).text(), "RangeError"),
};
