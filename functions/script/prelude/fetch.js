// Calls to others: what the function was allowed to call when it was deployed.

import { DOMException, native, needs } from "mayfly:errors";
import { AbortSignal } from "mayfly:events";
import { URL } from "mayfly:url";
import { headerWords } from "mayfly:headers";
import { ReadableStream } from "mayfly:readable";
import { consume } from "mayfly:body";
import { BODILESS, REDIRECTS, Request, asked, received } from "mayfly:messages";

// As browsers have it.
const MOST_REDIRECTS = 20;
// Of a connection, and not of the message.
const HOP_BY_HOP = ["connection", "keep-alive", "proxy-authenticate", "te", "trailer", "transfer-encoding", "upgrade"];
// Of a body that a redirect leaves out, and what another origin is not told.
const OF_BODY = ["content-encoding", "content-language", "content-length", "content-location", "content-type"];
const OF_ORIGIN = ["authorization", "cookie", "proxy-authorization"];

// Those that wait for a head.
const waiting = new Map();

export async function fetch(input, init) {
  needs(1, arguments.length, "fetch");
  const request = new Request(input, init);
  if (!native.inRequest()) {
    throw new DOMException("fetch is called while a request is answered, and not at the top level", "NotSupportedError");
  }
  const { url, method, headers, body, signal, redirect } = asked(request);
  signal?.throwIfAborted();
  const bytes = body === null ? null : await consume(body);
  let call = { url, method, words: headerWords(headers), bytes };
  for (let hops = 0; ; hops++) {
    const answer = await begin(call, signal);
    const location = REDIRECTS.includes(answer.status) ? wordOf(answer.words, "location") : undefined;
    if (location === undefined || redirect === "manual") return responseTo(call, answer, hops > 0, signal);
    native.fetchDrop(answer.id);
    if (redirect === "error") throw new TypeError(`fetch: ${call.url} leads elsewhere, and redirect is "error"`);
    if (hops === MOST_REDIRECTS) throw new TypeError(`fetch: more than ${MOST_REDIRECTS} redirects from ${url}`);
    call = redirected(call, answer.status, location);
  }
}

function begin({ url, method, words, bytes }, signal) {
  signal?.throwIfAborted();
  const id = native.fetchStart(method, url.split("#", 1)[0], words, bytes ?? undefined);
  return new Promise((resolve, reject) => {
    const stop = () => {
      waiting.delete(id);
      native.fetchDrop(id);
      reject(signal.reason);
    };
    if (signal) AbortSignal._onAbort(signal, stop);
    waiting.set(id, { resolve, reject, done: () => signal && AbortSignal._offAbort(signal, stop) });
  });
}

// A call's head is there, or why there is none.
export function settleFetch(id) {
  const { resolve, reject, done } = waiting.get(id);
  waiting.delete(id);
  done();
  try {
    const [status, ...words] = native.fetchHead(id);
    resolve({ id, status: Number(status), words });
  } catch (error) {
    reject(error);
  }
}

function wordOf(words, name) {
  for (let at = 0; at < words.length; at += 2) if (words[at] === name) return words[at + 1];
  return undefined;
}

function without(words, names) {
  const left = [];
  for (let at = 0; at < words.length; at += 2) {
    if (!names.includes(words[at].toLowerCase())) left.push(words[at], words[at + 1]);
  }
  return left;
}

// The next call: what it may reach is for the host to say, as of the first one.
function redirected({ url, method, words, bytes }, status, location) {
  const from = new URL(url);
  const to = URL.canParse(location, url) ? new URL(location, url) : null;
  if (to === null || (to.protocol !== "https:" && to.protocol !== "http:")) {
    throw new TypeError(`fetch: ${url} leads to '${location}', which is no http URL`);
  }
  to.hash ||= from.hash;
  const dropsBody = status === 303 ? method !== "GET" && method !== "HEAD" : status < 303 && method === "POST";
  let kept = dropsBody ? without(words, OF_BODY) : words;
  if (to.origin !== from.origin) kept = without(kept, OF_ORIGIN);
  return { url: to.href, method: dropsBody ? "GET" : method, words: kept, bytes: dropsBody ? null : bytes };
}

function responseTo({ url, method }, { id, status, words }, wasRedirected, signal) {
  const headers = without(words, HOP_BY_HOP);
  if (method === "HEAD" || BODILESS.includes(status)) {
    native.fetchDrop(id);
    return received(status, headers, null, url, wasRedirected);
  }
  let stop;
  const stream = new ReadableStream({
    type: "bytes",
    start(controller) {
      stop = () => {
        native.fetchDrop(id);
        controller.error(signal.reason);
      };
      if (signal) AbortSignal._onAbort(signal, stop);
    },
    pull(controller) {
      const piece = native.fetchRead(id);
      if (piece) {
        controller.enqueue(piece);
        return;
      }
      if (signal) AbortSignal._offAbort(signal, stop);
      controller.close();
    },
    cancel() {
      native.fetchDrop(id);
    },
  });
  return received(status, headers, stream, url, wasRedirected);
}
