// Request and Response.

import { byteString, native, needs, usv, webInterface } from "mayfly:errors";
import { AbortController, AbortSignal } from "mayfly:events";
import { URL } from "mayfly:url";
import { Headers, fixHeaders, headerWords, headersOf } from "mayfly:headers";
import { duplicate, extract, isUsed, streamOf, withBody } from "mayfly:body";
import { encode } from "mayfly:encoding";

const slots = new WeakMap();
const slot = (message) => {
  const found = slots.get(message);
  if (!found) throw new TypeError("this is no Request or Response");
  return found;
};

const NORMAL = new Set(["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"]);
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

function methodOf(method) {
  const text = byteString(method, "a method");
  if (!TOKEN.test(text) || /^(connect|trace|track)$/i.test(text)) throw new TypeError(`"${text}" is no method`);
  const upper = text.toUpperCase();
  return NORMAL.has(upper) ? upper : text;
}

const CHOICES = {
  cache: ["default", "no-store", "reload", "no-cache", "force-cache", "only-if-cached"],
  credentials: ["omit", "same-origin", "include"],
  mode: ["same-origin", "no-cors", "cors", "navigate"],
  redirect: ["follow", "error", "manual"],
};

function choiceOf(init, key, fallback) {
  const value = init[key];
  if (value === undefined) return fallback;
  if (!CHOICES[key].includes(`${value}`)) throw new TypeError(`a request's ${key} is one of ${CHOICES[key].join(", ")}`);
  return `${value}`;
}

export class Request {
  constructor(input, init = {}) {
    needs(1, arguments.length, "Request");
    init ??= {};
    const from = input instanceof Request ? slot(input) : null;
    let url = from?.url;
    if (!from) {
      const parsed = new URL(input);
      if (parsed.username || parsed.password) throw new TypeError("a request's URL has no user name and no password");
      url = parsed.href;
    }
    const method = init.method === undefined ? from?.method ?? "GET" : methodOf(init.method);
    const headers = new Headers(init.headers ?? (from ? input.headers : undefined));
    const signal = init.signal === undefined ? from?.signal : init.signal;
    if (signal && !(signal instanceof AbortSignal)) throw new TypeError("a request's signal is an AbortSignal");
    const given = init.body !== undefined && init.body !== null;
    if ((given || (from?.body && init.body === undefined)) && (method === "GET" || method === "HEAD")) {
      throw new TypeError(`a request with the method ${method} has no body`);
    }
    let body = null;
    if (given) {
      if (from && isUsed(from.body)) throw new TypeError("the request's body was read already");
      const extracted = extract(init.body);
      body = extracted.body;
      if (extracted.type !== null && !headers.has("content-type")) headers.append("content-type", extracted.type);
      if (body.stream && init.duplex !== undefined && `${init.duplex}` !== "half") {
        throw new TypeError(`a request's duplex is "half"`);
      }
    } else if (from && from.body && init.body === undefined) {
      if (isUsed(from.body) || from.body.stream?.locked) throw new TypeError("the request's body was read already");
      body = { ...from.body };
      if (from.body.stream) body.stream = from.body.stream.pipeThrough(identity());
      from.body.used = true;
    }
    slots.set(this, {
      url, method, body, headers, signal: signal ?? undefined,
      cache: choiceOf(init, "cache", from?.cache ?? "default"),
      credentials: choiceOf(init, "credentials", from?.credentials ?? "same-origin"),
      mode: choiceOf(init, "mode", from?.mode ?? "cors"),
      redirect: choiceOf(init, "redirect", from?.redirect ?? "follow"),
      integrity: usv(init.integrity ?? from?.integrity ?? ""),
      keepalive: !!(init.keepalive ?? from?.keepalive ?? false),
      cf: init.cf ?? from?.cf,
    });
  }

  get url() { return slot(this).url; }
  get method() { return slot(this).method; }
  get headers() {
    const inner = slot(this);
    inner.headers ??= headersOf(native.requestHeaders());
    return inner.headers;
  }
  get signal() {
    const inner = slot(this);
    inner.signal ??= new AbortController().signal;
    return inner.signal;
  }
  get cache() { return slot(this).cache ?? "default"; }
  get credentials() { return slot(this).credentials ?? "same-origin"; }
  get mode() { return slot(this).mode ?? "cors"; }
  get redirect() { return slot(this).redirect ?? "follow"; }
  get integrity() { return slot(this).integrity ?? ""; }
  get keepalive() { return slot(this).keepalive ?? false; }
  get cf() { return slot(this).cf; }
  get destination() { return ""; }
  get referrer() { return "about:client"; }
  get referrerPolicy() { return ""; }
  get duplex() { return "half"; }

  clone() {
    const inner = slot(this);
    const body = duplicate(inner.body);
    const made = Object.create(Request.prototype);
    slots.set(made, { ...inner, headers: new Headers(this.headers), body });
    return made;
  }
}
withBody(Request, slot);
webInterface(Request);

let identity;
export const useIdentity = (make) => { identity = make; };

// What a client sends. Its headers are fetched when they are asked for.
export function incoming(method, url, hasBody) {
  const request = Object.create(Request.prototype);
  slots.set(request, { url, method, body: hasBody ? { incoming: true } : null, headers: undefined, signal: undefined });
  return request;
}

export const REDIRECTS = [301, 302, 303, 307, 308];
export const BODILESS = [101, 103, 204, 205, 304];

export class Response {
  constructor(body = null, init = {}) {
    init ??= {};
    const status = init.status === undefined ? 200 : Math.trunc(Number(init.status));
    if (!(status >= 200 && status <= 599)) throw new RangeError(`a response's status is 200 to 599, not ${init.status}`);
    const statusText = byteString(init.statusText ?? "", "a response's statusText");
    if (/[^\t\x20-\x7e\x80-\xff]/.test(statusText)) throw new TypeError("this is no statusText");
    const headers = new Headers(init.headers);
    const extracted = extract(body);
    if (extracted.body !== null && BODILESS.includes(status)) {
      throw new TypeError(`a response with the status ${status} has no body`);
    }
    if (extracted.type !== null && !headers.has("content-type")) headers.append("content-type", extracted.type);
    slots.set(this, { status, statusText, headers, body: extracted.body, type: "default", url: "" });
  }

  static error() {
    const made = new Response();
    Object.assign(slot(made), { type: "error", status: 0 });
    fixHeaders(made.headers);
    return made;
  }

  static json(data, init = {}) {
    needs(1, arguments.length, "Response.json");
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError("Response.json: this has no JSON");
    const made = new Response(encode(text), init);
    if (!made.headers.has("content-type")) made.headers.set("content-type", "application/json");
    return made;
  }

  static redirect(url, status = 302) {
    needs(1, arguments.length, "Response.redirect");
    const location = new URL(url).href;
    if (!REDIRECTS.includes(status)) throw new RangeError(`${status} is no status of a redirect`);
    const made = new Response(null, { status, headers: { location } });
    fixHeaders(made.headers);
    return made;
  }

  get status() { return slot(this).status; }
  get ok() { return this.status >= 200 && this.status <= 299; }
  get statusText() { return slot(this).statusText; }
  get headers() { return slot(this).headers; }
  get type() { return slot(this).type; }
  get url() { return slot(this).url; }
  get redirected() { return slot(this).redirected ?? false; }

  clone() {
    const inner = slot(this);
    const body = duplicate(inner.body);
    const made = Object.create(Response.prototype);
    slots.set(made, { ...inner, headers: new Headers(inner.headers), body });
    return made;
  }
}
withBody(Response, slot);
webInterface(Response);

// What of a request is sent: a signal that nobody asked for is not made.
export function asked(request) {
  const { url, method, body, signal, redirect } = slot(request);
  return { url, method, body, signal, redirect, headers: request.headers };
}

// What another answered.
export function received(status, words, stream, url, redirected) {
  const response = Object.create(Response.prototype);
  const body = stream === null ? null : { stream };
  slots.set(response, { status, statusText: "", headers: headersOf(words), body, type: "basic", url, redirected });
  return response;
}

// What of a response goes to the client: status, header words, and bytes or a stream.
export function outgoing(response) {
  const { status, headers, body, type } = slot(response);
  if (type === "error") throw new TypeError("the handler gave Response.error(), which no client can be sent");
  if (isUsed(body)) throw new TypeError("the response's body was read already");
  if (body?.stream?.locked) throw new TypeError("the response's body is locked: it has a reader");
  const bytes = body === null ? new Uint8Array(0) : body.bytes;
  return { status, words: headerWords(headers), bytes, stream: bytes ? undefined : streamOf(body), incoming: body?.incoming };
}
