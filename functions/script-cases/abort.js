// From the DOM standard: EventTarget, AbortController and AbortSignal.

import { same, throws } from "./check.js";

export default {
  "abort": () => {
    const controller = new AbortController();
    const seen = [];
    controller.signal.onabort = (event) => seen.push(event.type);
    controller.signal.addEventListener("abort", () => seen.push(controller.signal.aborted));
    controller.abort();
    controller.abort();
    same([seen, controller.signal.reason.name], [["abort", true], "AbortError"]);
  },
  "a reason": () => {
    const controller = new AbortController();
    controller.abort("why");
    same(controller.signal.reason, "why");
    try {
      controller.signal.throwIfAborted();
    } catch (thrown) {
      same(thrown, "why");
    }
  },
  "not aborted": () => same(new AbortController().signal.throwIfAborted() === undefined, true),
  "AbortSignal.abort": () => same([AbortSignal.abort().aborted, AbortSignal.abort(5).reason], [true, 5]),
  "no constructor": () => throws(() => new AbortSignal(), "TypeError"),
  "timeout": async () => {
    const signal = AbortSignal.timeout(1);
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    same(signal.reason.name, "TimeoutError");
  },
  "any": () => {
    const [a, b] = [new AbortController(), new AbortController()];
    const any = AbortSignal.any([a.signal, b.signal]);
    b.abort("b");
    a.abort("a");
    same([any.aborted, any.reason], [true, "b"]);
  },
  "any of one that is aborted": () => same(AbortSignal.any([AbortSignal.abort("x")]).reason, "x"),
  "any of any": () => {
    const a = new AbortController();
    const any = AbortSignal.any([AbortSignal.any([a.signal])]);
    a.abort("deep");
    same(any.reason, "deep");
  },
  "once": () => {
    let count = 0;
    const target = new EventTarget();
    target.addEventListener("x", () => count++, { once: true });
    target.dispatchEvent(new Event("x"));
    target.dispatchEvent(new Event("x"));
    same(count, 1);
  },
  "a listener twice": () => {
    let count = 0;
    const target = new EventTarget();
    const listener = () => count++;
    target.addEventListener("x", listener);
    target.addEventListener("x", listener);
    target.dispatchEvent(new Event("x"));
    target.removeEventListener("x", listener);
    target.dispatchEvent(new Event("x"));
    same(count, 1);
  },
  "a listener with a signal": () => {
    let count = 0;
    const [target, controller] = [new EventTarget(), new AbortController()];
    target.addEventListener("x", () => count++, { signal: controller.signal });
    controller.abort();
    target.dispatchEvent(new Event("x"));
    same(count, 0);
  },
  "preventDefault": () => {
    const target = new EventTarget();
    target.addEventListener("x", (event) => event.preventDefault());
    same([target.dispatchEvent(new Event("x")), target.dispatchEvent(new Event("x", { cancelable: true }))], [true, false]);
  },
  "stopImmediatePropagation": () => {
    const seen = [];
    const target = new EventTarget();
    target.addEventListener("x", (event) => { seen.push(1); event.stopImmediatePropagation(); });
    target.addEventListener("x", () => seen.push(2));
    target.dispatchEvent(new Event("x"));
    same(seen, [1]);
  },
  "handleEvent": () => {
    const seen = [];
    const target = new EventTarget();
    target.addEventListener("x", { handleEvent(event) { seen.push(event.type, event.target === target); } });
    target.dispatchEvent(new Event("x"));
    same(seen, ["x", true]);
  },
  "CustomEvent": () => same(typeof CustomEvent === "undefined" ? 5 : new CustomEvent("x", { detail: 5 }).detail, 5),
  "DOMException": () => {
    const error = new DOMException("m", "NotFoundError");
    same([error instanceof Error, error.name, error.code, `${error}`, DOMException.NOT_FOUND_ERR], [true, "NotFoundError", 8, "NotFoundError: m", 8]);
  },
};
