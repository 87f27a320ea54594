// setTimeout and setInterval within a request, queueMicrotask, performance.

import { DOMException, native, webInterface, INTERNAL } from "mayfly:errors";
import { EventTarget, useTimers } from "mayfly:events";

// By what time they are due, and for one time in the order in which they were set.
let timers = [];
let last = 0;
let report = () => {};
export const onTimerError = (told) => { report = told; };

function add(callback, delay, interval, values) {
  if (!native.inRequest()) {
    throw new DOMException("timers are set while a request is answered, and not at the top level", "NotSupportedError");
  }
  const wait = Math.max(0, Math.min(Number(delay) || 0, 2 ** 31 - 1));
  const timer = { id: ++last, due: native.now() + wait, callback, values, interval: interval ? Math.max(1, wait) : 0 };
  insert(timer);
  return timer.id;
}

function insert(timer) {
  let at = timers.length;
  while (at > 0 && timers[at - 1].due > timer.due) at--;
  timers.splice(at, 0, timer);
}

function callable(callback, what) {
  if (typeof callback !== "function") throw new TypeError(`${what} takes a function`);
  return callback;
}

export const setTimeout = (callback, delay = 0, ...values) => add(callable(callback, "setTimeout"), delay, false, values);
export const setInterval = (callback, delay = 0, ...values) => add(callable(callback, "setInterval"), delay, true, values);
export function clearTimeout(id) {
  timers = timers.filter((timer) => timer.id !== Number(id));
}
export const clearInterval = clearTimeout;
useTimers(setTimeout);

// Milliseconds until the next is due; -1 if there is none.
export function nextTimer() {
  return timers.length === 0 ? -1 : Math.max(0, timers[0].due - native.now());
}

export function runTimers() {
  const now = native.now();
  if (timers.length === 0 || timers[0].due > now) return;
  const timer = timers.shift();
  if (timer.interval > 0) {
    timer.due = now + timer.interval;
    insert(timer);
  }
  try {
    timer.callback(...timer.values);
  } catch (error) {
    report(error);
  }
}

export function queueMicrotask(callback) {
  callable(callback, "queueMicrotask");
  Promise.resolve().then(() => {
    try {
      callback();
    } catch (error) {
      report(error);
    }
  });
}

let origin = 0;
export const startClock = () => { origin = Date.now(); };

export class Performance extends EventTarget {
  constructor(key) {
    super();
    if (key !== INTERNAL) throw new TypeError("Illegal constructor");
  }

  get timeOrigin() { return origin; }
  now() { return native.now(); }
  toJSON() { return { timeOrigin: origin }; }
}
webInterface(Performance);
export const performance = new Performance(INTERNAL);

export const scheduler = {
  wait: (delay) => new Promise((resolve) => setTimeout(resolve, delay)),
};
