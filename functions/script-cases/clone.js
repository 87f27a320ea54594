// From the HTML standard: structuredClone.

import { same, throws } from "./check.js";

const refused = (value) => () => throws(() => structuredClone(value), "DataCloneError");

export default {
  "plain values": () => same(structuredClone([1, "a", null, true, { b: [2] }]), [1, "a", null, true, { b: [2] }]),
  "undefined and a big number": () => same([structuredClone(undefined) === undefined, structuredClone(5n) === 5n], [true, true]),
  "it is a copy": () => {
    const value = { a: { b: 1 } };
    const other = structuredClone(value);
    other.a.b = 2;
    same(value.a.b, 1);
  },
  "a circle": () => {
    const value = {};
    value.own = value;
    const other = structuredClone(value);
    same([other.own === other, other !== value], [true, true]);
  },
  "the same twice": () => {
    const inner = {};
    const [a, b] = structuredClone([inner, inner]);
    same(a === b, true);
  },
  "map and set": () => {
    const other = structuredClone({ m: new Map([[{ k: 1 }, new Set([1])]]) });
    const [[key, value]] = other.m;
    same([key, [...value]], [{ k: 1 }, [1]]);
  },
  "date and pattern": () => {
    const [date, pattern] = structuredClone([new Date(5), /a/gi]);
    same([date.getTime(), pattern.source, pattern.flags, pattern.lastIndex], [5, "a", "gi", 0]);
  },
  "wrapped values": () => {
    const value = structuredClone(Object("text"));
    same([typeof value, `${value}`], ["object", "text"]);
  },
  "an error": () => {
    const error = structuredClone(new RangeError("m", { cause: 5 }));
    same([error instanceof RangeError, error.message, error.cause], [true, "m", 5]);
  },
  "views share their buffer": () => {
    const bytes = new Uint8Array([1, 2, 3, 4]);
    const [a, b] = structuredClone([bytes, new Uint16Array(bytes.buffer, 2)]);
    same([[...a], a.buffer === b.buffer, b.length, b.byteOffset], [[1, 2, 3, 4], true, 1, 2]);
  },
  "a list with gaps": () => {
    const list = [1, , 3];
    list.extra = "x";
    const other = structuredClone(list);
    same([other.length, 1 in other, other.extra], [3, false, "x"]);
  },
  "a class becomes an object": () => {
    class A { constructor() { this.b = 1; } get c() { return 2; } }
    const other = structuredClone(new A());
    same([other, Object.getPrototypeOf(other) === Object.prototype], [{ b: 1 }, true]);
  },
  "a getter's value": () => same(structuredClone({ get a() { return 7; } }), { a: 7 }),
  "transfer": () => {
    const buffer = new Uint8Array([1, 2]).buffer;
    const other = structuredClone({ buffer }, { transfer: [buffer] });
    same([[...new Uint8Array(other.buffer)], buffer.byteLength], [[1, 2], 0]);
  },
  "a function": refused(() => {}),
  "a symbol": refused(Symbol("a")),
  "a function within": refused({ a: [() => {}] }),
  "a weak map": refused(new WeakMap()),
  "a promise": refused(Promise.resolve()),
};
