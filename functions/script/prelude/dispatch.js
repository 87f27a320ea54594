// From a request to the script's handler and back.

import { native } from "mayfly:errors";
import { onListenerError } from "mayfly:events";
import { Request, Response, incoming, outgoing } from "mayfly:messages";
import { inspect } from "mayfly:inspect";
import { hint } from "mayfly:missing";
import { onTimerError, startClock } from "mayfly:timers";

let handler;
let warm;

// Finds the handler among what the script exports.
export function adopt(name, exported) {
  const own = exported.default;
  if (typeof own === "function" && !(own.prototype && /^class\b/.test(Function.prototype.toString.call(own)))) {
    handler = (request, env, context) => own(request, env, context);
  } else if (own !== null && typeof own === "object" && typeof own.fetch === "function") {
    handler = (request, env, context) => own.fetch(request, env, context);
  } else if (typeof exported.fetch === "function") {
    handler = (request, env, context) => exported.fetch(request, env, context);
  } else {
    throw new TypeError(
      `${name} exports no handler: export default { async fetch(request, env, ctx) { return new Response("...") } }`,
    );
  }
  warm = exported.warmup ?? own.warmup;
}

function fail(error) {
  const more = hint(error);
  if (more) error.message += `: ${more}`;
  native.fail(error);
}
onListenerError((error) => fail(error));
onTimerError((error) => fail(error));

class ExecutionContext {
  props = {};

  waitUntil(promise) {
    native.waitFor(1);
    Promise.resolve(promise).then(
      () => native.waitFor(-1),
      (error) => {
        native.waitFor(-1);
        fail(error);
      },
    );
  }

  passThroughOnException() {}
}

function environment() {
  const words = native.environment();
  const env = {};
  for (let at = 0; at < words.length; at += 2) env[words[at]] = words[at + 1];
  return env;
}

function respond(response) {
  try {
    if (!(response instanceof Response)) {
      throw new TypeError(`the handler gave ${shown(response)}, where it must give a Response`);
    }
    const { status, words, bytes, stream, incoming: echoed } = outgoing(response);
    native.respond(status, words, bytes ?? null);
    if (!bytes) pump(stream.getReader(), echoed);
  } catch (error) {
    fail(error);
  }
}

const shown = (value) => (value === undefined ? "nothing" : inspect(value, 1).slice(0, 80));

// A chunk is asked for when the one before has been written.
function pump(reader) {
  reader.read().then(({ value, done }) => {
    if (done) {
      native.end();
      return;
    }
    if (!(value instanceof Uint8Array)) {
      throw new TypeError(`the response's stream has ${shown(value)} in it, and only takes bytes; a TextEncoderStream makes them`);
    }
    native.write(value);
    pump(reader);
  }).catch(fail);
}

function call(handle, request, env) {
  try {
    const answered = handle(request, env, new ExecutionContext());
    if (answered instanceof Response) respond(answered);
    else Promise.resolve(answered).then(respond, fail);
  } catch (error) {
    fail(error);
  }
}

export function dispatch(method, url, hasBody) {
  startClock();
  call(handler, incoming(method, url, hasBody), environment());
}

// What every request uses is made once, before the snapshot.
export function rehearse() {
  call(async (request) => {
    const body = JSON.stringify({ path: new URL(request.url).pathname, type: request.headers.get("accept") });
    return new Response(body, { headers: { "content-type": "application/json" } });
  }, new Request("http://localhost/"), {});
}

// The script's own, if it exports one: a Request, a path, or a function that gives one.
export async function warmUp() {
  if (warm === undefined) {
    native.respond(204, [], new Uint8Array(0));
    return;
  }
  try {
    const given = typeof warm === "function" ? await warm() : warm;
    const request = given instanceof Request ? given : new Request(new URL(`${given ?? "/"}`, "http://localhost/"));
    call(handler, request, {});
  } catch (error) {
    fail(error);
  }
}

const rejections = new Map();

export function rejected(promise, reason, handled) {
  if (handled) rejections.delete(promise);
  else rejections.set(promise, reason);
}

// The reasons of promises that were rejected, and that nobody has looked after since.
export function unhandled() {
  const reasons = [...rejections.values()];
  rejections.clear();
  return reasons;
}

export const place = () => new Error().stack;
export const random = () => Math.random();
