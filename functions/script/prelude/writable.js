// WritableStream, its writer and controller, and pipes.

import { AbortController, AbortSignal } from "mayfly:events";
import { INTERNAL, webInterface } from "mayfly:errors";
import { Queue, deferred, promised, quiet, strategyOf } from "mayfly:queues";
import { pipes, readableState } from "mayfly:readable";

const slots = new WeakMap();
const CLOSE = Symbol("close");

export class WritableStreamDefaultController {
  constructor(key) {
    if (key !== INTERNAL) throw new TypeError("Illegal constructor");
  }

  get signal() { return slots.get(this).abort.signal; }
  error(reason) {
    const stream = slots.get(this);
    if (stream.state === "writable") startErroring(stream, reason);
  }
}
webInterface(WritableStreamDefaultController);

const desired = (stream) => {
  if (stream.state === "errored" || stream.state === "erroring") return null;
  return stream.state === "closed" ? 0 : stream.high - stream.queue.total;
};
const isClosing = (stream) => stream.closeRequest !== undefined;
const hasPressure = (stream) => desired(stream) <= 0;

function updatePressure(stream) {
  const pressure = stream.state === "writable" && !isClosing(stream) && hasPressure(stream);
  if (pressure === stream.pressure) return;
  stream.pressure = pressure;
  if (!stream.writer) return;
  if (pressure) stream.writer.ready = deferred();
  else stream.writer.ready.resolve(undefined);
}

function startErroring(stream, reason) {
  stream.state = "erroring";
  stream.error = reason;
  if (stream.writer) rejectReady(stream.writer, reason);
  if (!stream.busy && stream.started) finishErroring(stream);
}

function rejectReady(writer, reason) {
  if (writer.ready.settled) writer.ready = deferred();
  quiet(writer.ready.promise);
  writer.ready.reject(reason);
}

function finishErroring(stream) {
  stream.state = "errored";
  for (const write of stream.writes.splice(0)) write.reject(stream.error);
  stream.queue.clear();
  const request = stream.abortRequest;
  const closed = () => {
    stream.closeRequest?.reject(stream.error);
    if (stream.writer) {
      quiet(stream.writer.closed.promise);
      stream.writer.closed.reject(stream.error);
    }
  };
  if (!request) return closed();
  stream.abortRequest = undefined;
  if (request.wasErroring) {
    request.reject(stream.error);
    return closed();
  }
  promised(() => stream.sink.abort?.(request.reason)).then(
    () => { request.resolve(undefined); closed(); },
    (error) => { request.reject(error); closed(); },
  );
}

function advance(stream) {
  if (!stream.started || stream.busy) return;
  if (stream.state === "erroring") return finishErroring(stream);
  if (stream.queue.length === 0) return;
  const chunk = stream.queue.peek();
  stream.busy = true;
  if (chunk === CLOSE) {
    stream.queue.shift();
    promised(() => stream.sink.close?.()).then(() => {
      stream.busy = false;
      stream.closeRequest.resolve(undefined);
      if (stream.state === "erroring") {
        stream.error = undefined;
        stream.abortRequest?.resolve(undefined);
        stream.abortRequest = undefined;
      }
      stream.state = "closed";
      stream.writer?.closed.resolve(undefined);
    }, (error) => failed(stream, stream.closeRequest, error));
    return;
  }
  const request = stream.writes.shift();
  promised(() => stream.sink.write?.(chunk, stream.controller)).then(() => {
    stream.busy = false;
    request.resolve(undefined);
    stream.queue.shift();
    updatePressure(stream);
    advance(stream);
  }, (error) => failed(stream, request, error));
}

function failed(stream, request, error) {
  stream.busy = false;
  request.reject(error);
  if (request === stream.closeRequest && stream.abortRequest) {
    stream.abortRequest.reject(error);
    stream.abortRequest = undefined;
  }
  if (stream.state === "writable") startErroring(stream, error);
  else if (stream.state === "erroring") finishErroring(stream);
}

function abort(stream, reason) {
  if (stream.state === "closed" || stream.state === "errored") return Promise.resolve();
  stream.abort.abort(reason);
  if (stream.state === "closed" || stream.state === "errored") return Promise.resolve();
  if (stream.abortRequest) return stream.abortRequest.promise;
  const request = deferred();
  request.reason = reason;
  request.wasErroring = stream.state === "erroring";
  stream.abortRequest = request;
  if (!request.wasErroring) startErroring(stream, reason);
  return request.promise;
}

function close(stream) {
  if (stream.state === "closed" || stream.state === "errored" || isClosing(stream)) {
    return Promise.reject(stream.error ?? new TypeError("the stream is closed, or is being closed"));
  }
  stream.closeRequest = deferred();
  if (stream.writer && stream.pressure && stream.state === "writable") stream.writer.ready.resolve(undefined);
  stream.queue.push(CLOSE, 0);
  advance(stream);
  return stream.closeRequest.promise;
}

export class WritableStream {
  constructor(sink = {}, strategy = {}) {
    if (sink?.type !== undefined) throw new RangeError("a sink has no type");
    const { high, size } = strategyOf(strategy, 1);
    const controller = new WritableStreamDefaultController(INTERNAL);
    const bound = {};
    for (const method of ["write", "close", "abort"]) {
      const own = sink?.[method];
      if (own === undefined) continue;
      if (typeof own !== "function") throw new TypeError(`a sink's ${method} is a function`);
      bound[method] = own.bind(sink);
    }
    const stream = {
      state: "writable", queue: new Queue(), writes: [], high, size, sink: bound, controller, abort: new AbortController(),
      started: false, busy: false, pressure: false,
    };
    slots.set(this, stream);
    slots.set(controller, stream);
    updatePressure(stream);
    const started = sink?.start?.(controller);
    Promise.resolve(started).then(
      () => { stream.started = true; advance(stream); },
      (error) => {
        stream.started = true;
        if (stream.state === "writable") startErroring(stream, error);
        else if (stream.state === "erroring") finishErroring(stream);
      },
    );
  }

  get locked() { return slots.get(this).writer !== undefined; }
  getWriter() { return new WritableStreamDefaultWriter(this); }
  abort(reason) {
    return this.locked ? Promise.reject(new TypeError("the stream is locked")) : abort(slots.get(this), reason);
  }
  close() {
    return this.locked ? Promise.reject(new TypeError("the stream is locked")) : close(slots.get(this));
  }
}
webInterface(WritableStream);

export class WritableStreamDefaultWriter {
  constructor(target) {
    const stream = slots.get(target);
    if (!stream) throw new TypeError("a writer is made for a WritableStream");
    if (stream.writer) throw new TypeError("the stream is locked: it has a writer already");
    const writer = { stream, closed: deferred(), ready: deferred() };
    if (stream.state === "closed") writer.closed.resolve(undefined);
    if (stream.state === "errored") {
      quiet(writer.closed.promise);
      writer.closed.reject(stream.error);
    }
    if (stream.state === "errored" || stream.state === "erroring") rejectReady(writer, stream.error);
    else if (!stream.pressure) writer.ready.resolve(undefined);
    slots.set(this, writer);
    stream.writer = writer;
  }

  get closed() { return slots.get(this).closed.promise; }
  get ready() { return slots.get(this).ready.promise; }
  get desiredSize() {
    const { stream } = slots.get(this);
    if (!stream) throw new TypeError("the writer was released");
    return desired(stream);
  }

  write(chunk) {
    const { stream } = slots.get(this);
    if (!stream) return Promise.reject(new TypeError("the writer was released"));
    let size = 1;
    try {
      size = stream.size(chunk);
    } catch (error) {
      if (stream.state === "writable") startErroring(stream, error);
    }
    if (stream.state === "errored" || stream.state === "erroring") return Promise.reject(stream.error);
    if (stream.state === "closed" || isClosing(stream)) return Promise.reject(new TypeError("the stream is closed"));
    const request = deferred();
    try {
      stream.queue.push(chunk, size);
    } catch (error) {
      startErroring(stream, error);
      return Promise.reject(error);
    }
    stream.writes.push(request);
    updatePressure(stream);
    advance(stream);
    return request.promise;
  }

  close() {
    const { stream } = slots.get(this);
    return stream ? close(stream) : Promise.reject(new TypeError("the writer was released"));
  }

  abort(reason) {
    const { stream } = slots.get(this);
    return stream ? abort(stream, reason) : Promise.reject(new TypeError("the writer was released"));
  }

  releaseLock() {
    const writer = slots.get(this);
    if (!writer.stream) return;
    const released = new TypeError("the writer was released");
    rejectReady(writer, released);
    if (writer.closed.settled) writer.closed = deferred();
    quiet(writer.closed.promise);
    writer.closed.reject(released);
    writer.stream.writer = undefined;
    writer.stream = undefined;
  }
}
webInterface(WritableStreamDefaultWriter);

export const writableState = (stream) => slots.get(stream);
export const errorWritable = (stream, reason) => {
  const inner = slots.get(stream);
  if (inner.state === "writable") startErroring(inner, reason);
};

pipes.to = async (source, destination, options) => {
  const { preventClose, preventAbort, preventCancel, signal } = options ?? {};
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw new TypeError("pipeTo: signal is an AbortSignal");
  if (!(destination instanceof WritableStream)) throw new TypeError("pipeTo takes a WritableStream");
  if (source.locked || destination.locked) throw new TypeError("a stream to be piped is locked");
  const reader = source.getReader();
  const writer = destination.getWriter();
  const stopped = deferred();
  const stop = () => stopped.reject(signal.reason);
  quiet(stopped.promise);
  if (signal?.aborted) stop();
  else if (signal) AbortSignal._onAbort(signal, stop);
  const [from, to] = [readableState(source), writableState(destination)];
  let last = Promise.resolve();
  try {
    if (to.state === "closed" || isClosing(to)) throw new TypeError("pipeTo: the destination is closed");
    quiet(writer.closed.catch(stopped.reject));
    while (true) {
      await Promise.race([writer.ready, stopped.promise]);
      const { value, done } = await Promise.race([reader.read(), stopped.promise]);
      if (done) break;
      last = quiet(writer.write(value));
    }
    await Promise.race([last, stopped.promise]);
    if (!preventClose) await writer.close();
  } catch (error) {
    const shut = [];
    const byDestination = to.state === "errored" || to.state === "erroring" || to.state === "closed";
    if (!preventAbort && to.state === "writable") shut.push(writer.abort(error));
    if (!preventCancel && from.state === "readable") shut.push(reader.cancel(error));
    if (byDestination || signal?.aborted || from.state === "errored") await Promise.allSettled(shut);
    throw error;
  } finally {
    if (signal) AbortSignal._offAbort(signal, stop);
    reader.releaseLock();
    writer.releaseLock();
  }
};
