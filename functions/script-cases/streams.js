// From the Streams standard.

import { rejects, same, throws } from "./check.js";

const collect = async (stream) => {
  const all = [];
  for await (const chunk of stream) all.push(chunk);
  return all;
};
const numbers = (count) => new ReadableStream({
  pull(controller) {
    this.n = (this.n ?? 0) + 1;
    controller.enqueue(this.n);
    if (this.n === count) controller.close();
  },
});
const tick = () => new Promise((resolve) => setTimeout(resolve, 0));

export default {
  "for await": async () => same(await collect(numbers(3)), [1, 2, 3]),
  "a reader": async () => {
    const reader = numbers(1).getReader();
    same([await reader.read(), await reader.read()], [{ value: 1, done: false }, { done: true }]);
    await reader.closed;
  },
  "locked": async () => {
    const stream = numbers(1);
    const reader = stream.getReader();
    throws(() => stream.getReader(), "TypeError");
    await rejects(stream.cancel(), "TypeError");
    reader.releaseLock();
    same(stream.locked, false);
    await rejects(reader.read(), "TypeError");
  },
  "start that fails": () => rejects(new ReadableStream({ start() { return Promise.reject(new RangeError()); } }).getReader().read(), "RangeError"),
  "pull that fails": () => rejects(new ReadableStream({ pull() { throw new RangeError(); } }).getReader().read(), "RangeError"),
  "error": async () => {
    let controller;
    const stream = new ReadableStream({ start(own) { controller = own; } });
    const read = stream.getReader().read();
    controller.error(new RangeError());
    await rejects(read, "RangeError");
    throws(() => controller.enqueue(1), "TypeError");
  },
  "cancel tells its source": async () => {
    let why;
    const stream = new ReadableStream({ cancel(reason) { why = reason; } });
    await stream.cancel("enough");
    same([why, await stream.getReader().read()], ["enough", { done: true }]);
  },
  "leaving a loop cancels": async () => {
    let canceled = false;
    const stream = new ReadableStream({ pull(own) { own.enqueue(1); }, cancel() { canceled = true; } });
    for await (const chunk of stream) if (chunk) break;
    same([canceled, stream.locked], [true, false]);
  },
  "leaving a loop may not cancel": async () => {
    const stream = numbers(2);
    for await (const chunk of stream.values({ preventCancel: true })) if (chunk) break;
    same(await collect(stream), [2]);
  },
  "nothing is pulled that nobody wants": async () => {
    let pulls = 0;
    new ReadableStream({ pull(own) { own.enqueue(++pulls); } }, { highWaterMark: 2 });
    await tick();
    same(pulls, 2);
  },
  "desiredSize": () => {
    const sizes = [];
    new ReadableStream({
      start(own) {
        sizes.push(own.desiredSize);
        own.enqueue("abc");
        sizes.push(own.desiredSize);
        own.close();
      },
    }, { highWaterMark: 5, size: (chunk) => chunk.length });
    same(sizes, [5, 2]);
  },
  "a bad size": () => throws(() => new ReadableStream({ start(own) { own.enqueue(1); } }, { size: () => -1 }), "RangeError"),
  "a bad mark": () => throws(() => new ReadableStream({}, { highWaterMark: NaN }), "RangeError"),
  "strategies": () => same([new CountQueuingStrategy({ highWaterMark: 3 }).size("abc"), new ByteLengthQueuingStrategy({ highWaterMark: 3 }).size(new Uint8Array(5))], [1, 5]),
  "tee": async () => {
    const [a, b] = numbers(3).tee();
    same([await collect(a), await collect(b)], [[1, 2, 3], [1, 2, 3]]);
  },
  "tee and cancel both": async () => {
    let why;
    const [a, b] = new ReadableStream({ cancel(reason) { why = reason; } }).tee();
    await Promise.all([a.cancel(1), b.cancel(2)]);
    same(why, [1, 2]);
  },
  "from": async () => {
    async function* twice() { yield "a"; yield "b"; }
    same([await collect(ReadableStream.from([1, 2])), await collect(ReadableStream.from(twice()))], [[1, 2], ["a", "b"]]);
  },
  "bytes take views only": () => throws(() => new ReadableStream({ type: "bytes", start(own) { own.enqueue("a"); } }), "TypeError"),
  "a reader with its own buffer": async () => {
    const stream = new ReadableStream({
      type: "bytes",
      start(own) {
        own.enqueue(new Uint8Array([1, 2, 3]));
        own.close();
      },
    });
    const reader = stream.getReader({ mode: "byob" });
    const first = await reader.read(new Uint8Array(2));
    const second = await reader.read(new Uint8Array(2));
    same([[...first.value], [...second.value]], [[1, 2], [3]]);
  },
  "a writer": async () => {
    const chunks = [];
    const writer = new WritableStream({ write(chunk) { chunks.push(chunk); }, close() { chunks.push("end"); } }).getWriter();
    await writer.write(1);
    writer.write(2);
    await writer.close();
    await writer.closed;
    same(chunks, [1, 2, "end"]);
  },
  "one write at a time": async () => {
    let most = 0;
    let now = 0;
    const writer = new WritableStream({
      async write() {
        most = Math.max(most, ++now);
        await tick();
        now--;
      },
    }).getWriter();
    await Promise.all([writer.write(1), writer.write(2), writer.write(3)]);
    same(most, 1);
  },
  "ready": async () => {
    let go;
    const writer = new WritableStream({ write: () => new Promise((resolve) => { go = resolve; }) }).getWriter();
    await writer.ready;
    writer.write(1);
    same(writer.desiredSize, 0);
    let ready = false;
    writer.ready.then(() => { ready = true; });
    await tick();
    const before = ready;
    go();
    await tick();
    same([before, ready], [false, true]);
  },
  "a write that fails": async () => {
    const writer = new WritableStream({ write() { throw new RangeError(); } }).getWriter();
    await rejects(writer.write(1), "RangeError");
    await rejects(writer.closed, "RangeError");
    await rejects(writer.write(2), "RangeError");
  },
  "abort": async () => {
    let why;
    const writer = new WritableStream({ abort(reason) { why = reason; } }).getWriter();
    await writer.abort("no");
    same(why, "no");
    await writer.closed.catch(() => {});
  },
  "pipeTo": async () => {
    const chunks = [];
    await numbers(3).pipeTo(new WritableStream({ write(chunk) { chunks.push(chunk); } }));
    same(chunks, [1, 2, 3]);
  },
  "pipeTo may leave it open": async () => {
    let closed = false;
    const sink = new WritableStream({ close() { closed = true; } });
    await numbers(1).pipeTo(sink, { preventClose: true });
    same([closed, sink.locked], [false, false]);
  },
  "pipeTo and a source that fails": async () => {
    let why;
    const source = new ReadableStream({ pull() { throw new RangeError("x"); } });
    await rejects(source.pipeTo(new WritableStream({ abort(reason) { why = reason.message; } })), "RangeError");
    same(why, "x");
  },
  "pipeTo and a sink that fails": async () => {
    let why;
    const source = new ReadableStream({ pull(own) { own.enqueue(1); }, cancel(reason) { why = reason.message; } });
    await rejects(source.pipeTo(new WritableStream({ write() { throw new RangeError("y"); } })), "RangeError");
    same(why, "y");
  },
  "pipeTo and a signal": async () => {
    const controller = new AbortController();
    const piped = new ReadableStream({}).pipeTo(new WritableStream(), { signal: controller.signal });
    controller.abort();
    await rejects(piped, "AbortError");
  },
  "a transform": async () => {
    const twice = new TransformStream({ transform(chunk, own) { own.enqueue(chunk * 2); }, flush(own) { own.enqueue("end"); } });
    same(await collect(numbers(3).pipeThrough(twice)), [2, 4, 6, "end"]);
  },
  "a transform that fails": () => rejects(collect(numbers(1).pipeThrough(new TransformStream({ transform() { throw new RangeError(); } }))), "RangeError"),
  "a transform that ends early": async () => {
    const first = new TransformStream({ transform(chunk, own) { own.enqueue(chunk); own.terminate(); } });
    same(await collect(numbers(3).pipeThrough(first)), [1]);
  },
  "text coders": async () => {
    const bytes = ReadableStream.from(["a€", "\ud83d", "\ude00"]).pipeThrough(new TextEncoderStream());
    same((await collect(bytes.pipeThrough(new TextDecoderStream()))).join(""), "a€😀");
  },
};
