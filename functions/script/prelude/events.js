// Event, EventTarget, AbortController and AbortSignal.

import { DOMException, INTERNAL, needs, webInterface } from "mayfly:errors";

export class Event {
  #type;
  #init;
  _target = null;
  _current = null;
  _phase = 0;
  _stopped = false;
  _stoppedAll = false;
  _canceled = false;
  _passive = false;

  constructor(type, init = {}) {
    needs(1, arguments.length, "Event");
    this.#type = `${type}`;
    this.#init = { bubbles: !!init?.bubbles, cancelable: !!init?.cancelable, composed: !!init?.composed };
    for (const key of ["_target", "_current", "_phase", "_stopped", "_stoppedAll", "_canceled", "_passive"]) {
      Object.defineProperty(this, key, { enumerable: false });
    }
  }

  get type() { return this.#type; }
  get bubbles() { return this.#init.bubbles; }
  get cancelable() { return this.#init.cancelable; }
  get composed() { return this.#init.composed; }
  get target() { return this._target; }
  get srcElement() { return this._target; }
  get currentTarget() { return this._current; }
  get eventPhase() { return this._phase; }
  get defaultPrevented() { return this._canceled; }
  get returnValue() { return !this._canceled; }
  get cancelBubble() { return this._stopped; }
  get isTrusted() { return false; }
  get timeStamp() { return 0; }
  composedPath() { return this._current ? [this._current] : []; }
  preventDefault() { if (this.cancelable && !this._passive) this._canceled = true; }
  stopPropagation() { this._stopped = true; }
  stopImmediatePropagation() { this._stopped = this._stoppedAll = true; }

  static NONE = 0;
  static CAPTURING_PHASE = 1;
  static AT_TARGET = 2;
  static BUBBLING_PHASE = 3;
}
webInterface(Event);

export class CustomEvent extends Event {
  #detail;

  constructor(type, init = {}) {
    super(type, init);
    this.#detail = init?.detail ?? null;
  }

  get detail() { return this.#detail; }
}
webInterface(CustomEvent);

export class ErrorEvent extends Event {
  #init;

  constructor(type, init = {}) {
    super(type, init);
    this.#init = init ?? {};
  }

  get message() { return `${this.#init.message ?? ""}`; }
  get error() { return this.#init.error ?? null; }
  get filename() { return `${this.#init.filename ?? ""}`; }
  get lineno() { return this.#init.lineno ?? 0; }
  get colno() { return this.#init.colno ?? 0; }
}
webInterface(ErrorEvent);

// What a listener throws is told, and stops nothing else.
let report = () => {};
export const onListenerError = (told) => { report = told; };

export class EventTarget {
  #listeners = new Map();

  addEventListener(type, callback, options) {
    needs(2, arguments.length, "addEventListener");
    if (callback === null || callback === undefined) return;
    const { capture = false, once = false, passive = false, signal } =
      typeof options === "object" && options !== null ? options : { capture: !!options };
    if (signal?.aborted) return;
    const key = `${type}`;
    const list = this.#listeners.get(key) ?? [];
    if (list.some((one) => one.callback === callback && one.capture === !!capture)) return;
    const added = { callback, capture: !!capture, once: !!once, passive: !!passive, removed: false };
    this.#listeners.set(key, [...list, added]);
    signal?.addEventListener("abort", () => this.#remove(key, added));
  }

  removeEventListener(type, callback, options) {
    const capture = typeof options === "object" && options !== null ? !!options.capture : !!options;
    const list = this.#listeners.get(`${type}`) ?? [];
    const found = list.find((one) => one.callback === callback && one.capture === capture);
    if (found) this.#remove(`${type}`, found);
  }

  #remove(key, one) {
    one.removed = true;
    this.#listeners.set(key, (this.#listeners.get(key) ?? []).filter((other) => other !== one));
  }

  dispatchEvent(event) {
    if (!(event instanceof Event)) throw new TypeError("dispatchEvent takes an Event");
    if (event._phase !== 0) throw new DOMException("the event is being dispatched already", "InvalidStateError");
    event._target = event._current = this;
    event._phase = Event.AT_TARGET;
    for (const one of this.#listeners.get(event.type) ?? []) {
      if (one.removed) continue;
      if (one.once) this.#remove(event.type, one);
      event._passive = one.passive;
      try {
        if (typeof one.callback === "function") one.callback.call(this, event);
        else one.callback.handleEvent(event);
      } catch (error) {
        report(error);
      }
      event._passive = false;
      if (event._stoppedAll) break;
    }
    event._current = null;
    event._phase = 0;
    event._stopped = event._stoppedAll = false;
    return !event._canceled;
  }
}
webInterface(EventTarget);

// An attribute like `onabort`: a listener that is set, and set anew.
export function eventHandler(type, name) {
  const current = new WeakMap();
  Object.defineProperty(type.prototype, `on${name}`, {
    get() { return current.get(this)?.handler ?? null; },
    set(handler) {
      const before = current.get(this);
      if (before) this.removeEventListener(name, before.listener);
      current.delete(this);
      if (typeof handler !== "function") return;
      const listener = (event) => handler.call(this, event);
      current.set(this, { handler, listener });
      this.addEventListener(name, listener);
    },
    enumerable: true,
    configurable: true,
  });
}

let setTimer;
export const useTimers = (timer) => { setTimer = timer; };

export class AbortSignal extends EventTarget {
  #aborted = false;
  #reason = undefined;
  #followers = [];
  #sources = [];
  #algorithms = new Set();

  constructor(key) {
    super();
    if (key !== INTERNAL) throw new TypeError("an AbortSignal is made by an AbortController");
  }

  get aborted() { return this.#aborted; }
  get reason() { return this.#reason; }
  throwIfAborted() { if (this.#aborted) throw this.#reason; }

  static abort(reason = new DOMException("This operation was aborted", "AbortError")) {
    const signal = new AbortSignal(INTERNAL);
    signal.#aborted = true;
    signal.#reason = reason;
    return signal;
  }

  static timeout(milliseconds) {
    needs(1, arguments.length, "AbortSignal.timeout");
    const delay = Number(milliseconds);
    if (!(delay >= 0) || delay > Number.MAX_SAFE_INTEGER) throw new TypeError("AbortSignal.timeout takes a time");
    const signal = new AbortSignal(INTERNAL);
    setTimer(() => signal._abort(new DOMException("The operation timed out", "TimeoutError")), delay);
    return signal;
  }

  static any(signals) {
    const result = new AbortSignal(INTERNAL);
    const all = [...signals];
    for (const signal of all) {
      if (!(signal instanceof AbortSignal)) throw new TypeError("AbortSignal.any takes signals");
    }
    const aborted = all.find((signal) => signal.#aborted);
    if (aborted) {
      result.#aborted = true;
      result.#reason = aborted.#reason;
      return result;
    }
    for (const signal of all) {
      for (const source of signal.#sources.length ? signal.#sources : [signal]) {
        if (result.#sources.includes(source)) continue;
        result.#sources.push(source);
        source.#followers.push(result);
      }
    }
    return result;
  }

  // Not for scripts: what is done at an abort, before its event.
  static _onAbort(signal, algorithm) {
    if (!signal.#aborted) signal.#algorithms.add(algorithm);
  }

  static _offAbort(signal, algorithm) {
    signal.#algorithms.delete(algorithm);
  }

  _abort(reason) {
    if (this.#aborted) return;
    const all = [this, ...this.#followers.filter((signal) => !signal.#aborted)];
    for (const signal of all) {
      signal.#aborted = true;
      signal.#reason = reason;
    }
    for (const signal of all) {
      for (const algorithm of signal.#algorithms) algorithm();
      signal.#algorithms.clear();
      signal.dispatchEvent(new Event("abort"));
    }
  }
}
webInterface(AbortSignal);
Object.defineProperty(AbortSignal.prototype, "_abort", { enumerable: false });
for (const key of ["_onAbort", "_offAbort"]) Object.defineProperty(AbortSignal, key, { enumerable: false });
eventHandler(AbortSignal, "abort");

export class AbortController {
  #signal = new AbortSignal(INTERNAL);

  get signal() { return this.#signal; }

  abort(reason = new DOMException("This operation was aborted", "AbortError")) {
    this.#signal._abort(reason);
  }
}
webInterface(AbortController);
