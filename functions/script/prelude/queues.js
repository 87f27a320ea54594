// How much a stream holds, and promises that are settled from outside.

import { webInterface } from "mayfly:errors";

export class CountQueuingStrategy {
  #mark;

  constructor(init) {
    if (init?.highWaterMark === undefined) throw new TypeError("CountQueuingStrategy needs a highWaterMark");
    this.#mark = Number(init.highWaterMark);
  }

  get highWaterMark() { return this.#mark; }
  get size() { return () => 1; }
}
webInterface(CountQueuingStrategy);

export class ByteLengthQueuingStrategy {
  #mark;

  constructor(init) {
    if (init?.highWaterMark === undefined) throw new TypeError("ByteLengthQueuingStrategy needs a highWaterMark");
    this.#mark = Number(init.highWaterMark);
  }

  get highWaterMark() { return this.#mark; }
  get size() { return (chunk) => chunk.byteLength; }
}
webInterface(ByteLengthQueuingStrategy);

// The mark and the size of a strategy as streams take them.
export function strategyOf(strategy, mark) {
  const given = strategy?.highWaterMark;
  const high = given === undefined ? mark : Number(given);
  if (Number.isNaN(high) || high < 0) throw new RangeError("a stream's highWaterMark is a number, 0 or more");
  const size = strategy?.size;
  if (size !== undefined && typeof size !== "function") throw new TypeError("a strategy's size is a function");
  return { high, size: size === undefined ? () => 1 : (chunk) => size(chunk) };
}

export function deferred() {
  const all = Promise.withResolvers();
  all.settled = false;
  const { resolve, reject } = all;
  all.resolve = (value) => { all.settled = true; resolve(value); };
  all.reject = (reason) => { all.settled = true; reject(reason); };
  return all;
}

// A promise that may be rejected without anybody looking.
export function quiet(promise) {
  promise.catch(() => {});
  return promise;
}

// Chunks with their sizes.
export class Queue {
  #chunks = [];
  #sizes = [];
  total = 0;

  get length() { return this.#chunks.length; }

  push(chunk, size) {
    const number = Number(size);
    if (!(number >= 0) || number === Infinity) throw new RangeError("a chunk's size is a finite number, 0 or more");
    this.#chunks.push(chunk);
    this.#sizes.push(number);
    this.total += number;
  }

  peek() { return this.#chunks[0]; }

  shift() {
    this.total = Math.max(0, this.total - this.#sizes.shift());
    return this.#chunks.shift();
  }

  // Puts back what is left of a chunk.
  unshift(chunk, size) {
    this.#chunks.unshift(chunk);
    this.#sizes.unshift(size);
    this.total += size;
  }

  clear() {
    this.#chunks = [];
    this.#sizes = [];
    this.total = 0;
  }
}

// Calls what may throw, or give a promise, as one that gives a promise.
export function promised(call) {
  try {
    return Promise.resolve(call());
  } catch (error) {
    return Promise.reject(error);
  }
}
