// ReadableStream, its readers and controllers.

import { INTERNAL, bytesOf, webInterface } from "mayfly:errors";
import { Queue, deferred, promised, quiet, strategyOf } from "mayfly:queues";

// The slots of streams, readers and controllers, which scripts cannot reach.
const slots = new WeakMap();
const of = (thing, type, what) => {
  const found = slots.get(thing);
  if (!found || !(thing instanceof type)) throw new TypeError(`this is no ${what}`);
  return found;
};

export class ReadableStreamDefaultController {
  constructor(key) {
    if (key !== INTERNAL) throw new TypeError("Illegal constructor");
  }

  get desiredSize() { return desired(of(this, ReadableStreamDefaultController, "controller")); }
  get byobRequest() { return null; }

  close() {
    const stream = of(this, ReadableStreamDefaultController, "controller");
    if (stream.closing || stream.state !== "readable") throw new TypeError("the stream is closed, or is being closed");
    stream.closing = true;
    if (stream.queue.length === 0) finish(stream);
  }

  enqueue(chunk) {
    const stream = of(this, ReadableStreamDefaultController, "controller");
    if (stream.closing || stream.state !== "readable") throw new TypeError("the stream is closed, or is being closed");
    enqueue(stream, chunk);
  }

  error(reason) {
    fail(of(this, ReadableStreamDefaultController, "controller"), reason);
  }
}
webInterface(ReadableStreamDefaultController);

export class ReadableByteStreamController extends ReadableStreamDefaultController {}
webInterface(ReadableByteStreamController);

function desired(stream) {
  if (stream.state === "errored") return null;
  return stream.state === "closed" ? 0 : stream.high - stream.queue.total;
}

function enqueue(stream, chunk) {
  if (stream.bytes) {
    const view = ArrayBuffer.isView(chunk) ? bytesOf(chunk) : null;
    if (!view) throw new TypeError("a stream of bytes takes views of buffers");
    if (view.byteLength === 0) throw new TypeError("a stream of bytes takes no empty chunk");
    chunk = view;
  }
  if (stream.requests.length > 0) {
    answer(stream, stream.requests.shift(), chunk);
  } else {
    try {
      stream.queue.push(chunk, stream.bytes ? chunk.byteLength : stream.size(chunk));
    } catch (error) {
      fail(stream, error);
      throw error;
    }
  }
  pull(stream);
}

function answer(stream, request, chunk) {
  if (request.view) {
    const into = request.view;
    const taken = Math.min(into.byteLength, chunk.byteLength);
    const target = new Uint8Array(into.buffer, into.byteOffset, into.byteLength);
    target.set(chunk.subarray(0, taken));
    if (taken < chunk.byteLength) stream.queue.unshift(chunk.subarray(taken), chunk.byteLength - taken);
    const unit = into.BYTES_PER_ELEMENT ?? 1;
    chunk = new into.constructor(into.buffer, into.byteOffset, Math.floor(taken / unit));
  }
  request.resolve({ value: chunk, done: false });
}

function finish(stream) {
  stream.state = "closed";
  stream.pull = stream.cancel = undefined;
  for (const request of stream.requests.splice(0)) {
    const value = request.view ? new request.view.constructor(request.view.buffer, request.view.byteOffset, 0) : undefined;
    request.resolve({ value, done: true });
  }
  stream.reader?.closed.resolve(undefined);
}

function fail(stream, reason) {
  if (stream.state !== "readable") return;
  stream.state = "errored";
  stream.error = reason;
  stream.queue.clear();
  stream.pull = stream.cancel = undefined;
  for (const request of stream.requests.splice(0)) request.reject(reason);
  if (stream.reader) {
    quiet(stream.reader.closed.promise);
    stream.reader.closed.reject(reason);
  }
}

function pull(stream) {
  if (stream.state !== "readable" || stream.closing || !stream.started || !stream.pull) return;
  if (stream.requests.length === 0 && desired(stream) <= 0) return;
  if (stream.pulling) {
    stream.pullAgain = true;
    return;
  }
  stream.pulling = true;
  promised(() => stream.pull(stream.controller)).then(
    () => {
      stream.pulling = false;
      if (!stream.pullAgain) return;
      stream.pullAgain = false;
      pull(stream);
    },
    (error) => fail(stream, error),
  );
}

function cancel(stream, reason) {
  stream.disturbed = true;
  if (stream.state === "closed") return Promise.resolve();
  if (stream.state === "errored") return Promise.reject(stream.error);
  const algorithm = stream.cancel;
  stream.queue.clear();
  finish(stream);
  return promised(() => algorithm?.(reason)).then(() => undefined);
}

// One chunk, for readers; `view` is where a reader of bytes wants them.
function read(stream, view) {
  stream.disturbed = true;
  if (stream.state === "errored") return Promise.reject(stream.error);
  if (stream.state === "closed") {
    return Promise.resolve({ value: view ? new view.constructor(view.buffer, view.byteOffset, 0) : undefined, done: true });
  }
  const request = deferred();
  request.view = view;
  if (stream.queue.length > 0) {
    answer(stream, request, stream.queue.shift());
    if (stream.closing && stream.queue.length === 0) finish(stream);
    else pull(stream);
  } else {
    stream.requests.push(request);
    pull(stream);
  }
  return request.promise;
}

class Reader {
  constructor(stream) {
    const inner = of(stream, ReadableStream, "ReadableStream");
    if (inner.reader) throw new TypeError("the stream is locked: it has a reader already");
    const closed = deferred();
    if (inner.state === "closed") closed.resolve(undefined);
    if (inner.state === "errored") {
      quiet(closed.promise);
      closed.reject(inner.error);
    }
    slots.set(this, { stream: inner, closed });
    inner.reader = slots.get(this);
  }

  get closed() { return slots.get(this).closed.promise; }

  cancel(reason) {
    const { stream } = slots.get(this);
    return stream ? cancel(stream, reason) : Promise.reject(new TypeError("the reader was released"));
  }

  releaseLock() {
    const slot = slots.get(this);
    if (!slot.stream) return;
    const released = new TypeError("the reader was released");
    for (const request of slot.stream.requests.splice(0)) request.reject(released);
    if (slot.closed.settled) slot.closed = deferred();
    quiet(slot.closed.promise);
    slot.closed.reject(released);
    slot.stream.reader = undefined;
    slot.stream = undefined;
  }
}

export class ReadableStreamDefaultReader extends Reader {
  read() {
    const { stream } = slots.get(this);
    return stream ? read(stream) : Promise.reject(new TypeError("the reader was released"));
  }
}

export class ReadableStreamBYOBReader extends Reader {
  constructor(stream) {
    if (!of(stream, ReadableStream, "ReadableStream").bytes) throw new TypeError("this is no stream of bytes");
    super(stream);
  }

  read(view) {
    const { stream } = slots.get(this);
    if (!ArrayBuffer.isView(view)) return Promise.reject(new TypeError("read takes a view of a buffer"));
    if (view.byteLength === 0) return Promise.reject(new TypeError("the view is empty"));
    return stream ? read(stream, view) : Promise.reject(new TypeError("the reader was released"));
  }
}
for (const type of [ReadableStreamDefaultReader, ReadableStreamBYOBReader]) {
  for (const key of ["closed", "cancel", "releaseLock"]) {
    Object.defineProperty(type.prototype, key, Object.getOwnPropertyDescriptor(Reader.prototype, key));
  }
  webInterface(type);
}

// `pipeTo`, made by the file on writable streams.
export const pipes = { to: undefined };

export class ReadableStream {
  constructor(source = {}, strategy = {}) {
    if (source === null || typeof source !== "object") throw new TypeError("a stream's source is an object");
    const bytes = source.type !== undefined;
    if (bytes && `${source.type}` !== "bytes") throw new TypeError(`a stream's type is "bytes", or there is none`);
    const { high, size } = strategyOf(strategy, bytes ? 0 : 1);
    const type = bytes ? ReadableByteStreamController : ReadableStreamDefaultController;
    const controller = new type(INTERNAL);
    const stream = {
      state: "readable", queue: new Queue(), requests: [], high, size, bytes, controller,
      closing: false, started: false, pulling: false, pullAgain: false, disturbed: false,
    };
    for (const method of ["pull", "cancel"]) {
      const own = source[method];
      if (own === undefined) continue;
      if (typeof own !== "function") throw new TypeError(`a source's ${method} is a function`);
      stream[method] = own.bind(source);
    }
    slots.set(this, stream);
    slots.set(controller, stream);
    const started = source.start?.(controller);
    Promise.resolve(started).then(
      () => { stream.started = true; pull(stream); },
      (error) => fail(stream, error),
    );
  }

  get locked() { return of(this, ReadableStream, "ReadableStream").reader !== undefined; }

  cancel(reason) {
    if (this.locked) return Promise.reject(new TypeError("the stream is locked"));
    return cancel(slots.get(this), reason);
  }

  getReader(options = {}) {
    const mode = options?.mode;
    if (mode === undefined) return new ReadableStreamDefaultReader(this);
    if (`${mode}` !== "byob") throw new TypeError(`a reader's mode is "byob", or there is none`);
    return new ReadableStreamBYOBReader(this);
  }

  pipeThrough({ readable, writable }, options) {
    if (this.locked || writable.locked) throw new TypeError("a stream to be piped is locked");
    quiet(this.pipeTo(writable, options));
    return readable;
  }

  pipeTo(destination, options = {}) {
    return pipes.to(this, destination, options);
  }

  tee() {
    const reader = this.getReader();
    const branches = [];
    const canceled = [false, false];
    const reasons = [];
    const done = deferred();
    let reading = false;
    let again = false;
    const pullBoth = () => {
      if (reading) {
        again = true;
        return;
      }
      reading = true;
      reader.read().then(({ value, done: ended }) => {
        reading = false;
        for (const at of [0, 1]) {
          if (canceled[at]) continue;
          if (ended) branches[at].close();
          else branches[at].enqueue(value);
        }
        if (ended) done.resolve(undefined);
        else if (again) {
          again = false;
          pullBoth();
        }
      }, (error) => {
        for (const branch of branches) branch.error(error);
        done.resolve(undefined);
      });
    };
    const branch = (at) => new ReadableStream({
      start(controller) { branches[at] = controller; },
      pull: pullBoth,
      cancel(reason) {
        canceled[at] = true;
        reasons[at] = reason;
        if (canceled[0] && canceled[1]) done.resolve(reader.cancel([...reasons]));
        return done.promise;
      },
    });
    return [branch(0), branch(1)];
  }

  async *values(options = {}) {
    const reader = this.getReader();
    let ended = false;
    try {
      while (true) {
        const { value, done } = await reader.read().catch((error) => { ended = true; throw error; });
        ended = done;
        if (done) return;
        yield value;
      }
    } finally {
      if (!ended && !options?.preventCancel) await reader.cancel();
      reader.releaseLock();
    }
  }

  static from(iterable) {
    const method = iterable?.[Symbol.asyncIterator] ?? iterable?.[Symbol.iterator];
    if (typeof method !== "function") throw new TypeError("ReadableStream.from takes what can be iterated over");
    const iterator = method.call(iterable);
    return new ReadableStream({
      async pull(controller) {
        const { value, done } = await iterator.next();
        if (done) controller.close();
        else controller.enqueue(await value);
      },
      async cancel(reason) { await iterator.return?.(reason); },
    }, { highWaterMark: 0 });
  }
}
webInterface(ReadableStream);
Object.defineProperty(ReadableStream.prototype, Symbol.asyncIterator, {
  value: ReadableStream.prototype.values, writable: true, configurable: true,
});

export const isDisturbed = (stream) => of(stream, ReadableStream, "ReadableStream").disturbed;
export const errorReadable = (controller, reason) => fail(slots.get(controller), reason);
export const readableState = (stream) => slots.get(stream);
