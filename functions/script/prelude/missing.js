// What other runtimes have, and this one has not: named where it is used.

const WHERE = "docs/javascript.md has what there is";

// Not globals, so that scripts can ask for them by typeof; an error that names one of them says more.
const NAMES = new Set([
  "caches", "WebSocket", "WebSocketPair", "HTMLRewriter", "EventSource", "Worker", "SharedWorker", "BroadcastChannel",
  "MessageChannel", "MessagePort", "CompressionStream", "DecompressionStream", "FixedLengthStream", "process", "Buffer",
  "require", "module", "exports", "__dirname", "__filename", "Deno", "Bun", "window", "document", "localStorage",
  "sessionStorage", "indexedDB", "XMLHttpRequest", "importScripts", "WebAssembly", "setImmediate", "ReadableStreamBYOBRequest",
]);

// A hint behind an error's message, if what it misses is one of those.
export function hint(error) {
  if (!(error instanceof ReferenceError)) return "";
  const name = /^'?([\w$]+)'? is not defined/.exec(error.message)?.[1];
  return NAMES.has(name) ? `${name} is not in Mayfly; ${WHERE}` : "";
}
