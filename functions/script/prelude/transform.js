// TransformStream, and the text coders as streams.

import { INTERNAL, webInterface } from "mayfly:errors";
import { TextDecoder, encode } from "mayfly:encoding";
import { deferred, promised } from "mayfly:queues";
import { ReadableStream, errorReadable, readableState } from "mayfly:readable";
import { WritableStream, errorWritable } from "mayfly:writable";

const slots = new WeakMap();

export class TransformStreamDefaultController {
  constructor(key) {
    if (key !== INTERNAL) throw new TypeError("Illegal constructor");
  }

  get desiredSize() { return slots.get(this).out.desiredSize; }
  enqueue(chunk) { slots.get(this).out.enqueue(chunk); }
  error(reason) { fail(slots.get(this), reason); }

  terminate() {
    const inner = slots.get(this);
    inner.out.close();
    inner.unblock();
    errorWritable(inner.writable, new TypeError("the transform was terminated"));
  }
}
webInterface(TransformStreamDefaultController);

function fail(inner, reason) {
  errorReadable(inner.out, reason);
  errorWritable(inner.writable, reason);
  inner.unblock();
}

export class TransformStream {
  constructor(transformer = {}, writableStrategy = {}, readableStrategy = { highWaterMark: 0 }) {
    transformer ??= {};
    if (transformer.readableType !== undefined || transformer.writableType !== undefined) {
      throw new RangeError("a transformer has no types");
    }
    const controller = new TransformStreamDefaultController(INTERNAL);
    const inner = { out: undefined, writable: undefined, wanted: deferred() };
    inner.unblock = () => inner.wanted.resolve(undefined);
    slots.set(controller, inner);
    const started = deferred();
    const transform = transformer.transform
      ? (chunk) => transformer.transform(chunk, controller)
      : (chunk) => controller.enqueue(chunk);
    const readable = new ReadableStream({
      start(own) {
        inner.out = own;
        return started.promise;
      },
      pull() {
        inner.unblock();
      },
      async cancel(reason) {
        errorWritable(inner.writable, reason);
        inner.unblock();
        await transformer.cancel?.(reason);
      },
    }, { highWaterMark: 0, ...readableStrategy });
    inner.writable = new WritableStream({
      start: () => started.promise,
      async write(chunk) {
        // With room for nothing, a chunk waits until somebody reads.
        if (inner.out.desiredSize <= 0) {
          inner.wanted = deferred();
          // A read may wait already.
          if (inner.pulled?.()) inner.unblock();
          await inner.wanted.promise;
        }
        try {
          await transform(chunk);
        } catch (error) {
          fail(inner, error);
          throw error;
        }
      },
      async close() {
        try {
          await transformer.flush?.(controller);
          try {
            inner.out.close();
          } catch {
            // The transformer has closed it.
          }
        } catch (error) {
          errorReadable(inner.out, error);
          throw error;
        }
      },
      async abort(reason) {
        await transformer.cancel?.(reason);
        errorReadable(inner.out, reason);
      },
    }, writableStrategy);
    inner.pulled = pendingReads(readable);
    slots.set(this, { readable, writable: inner.writable });
    promised(() => transformer.start?.(controller)).then(started.resolve, (error) => {
      started.reject(error);
      fail(inner, error);
    });
  }

  get readable() { return slots.get(this).readable; }
  get writable() { return slots.get(this).writable; }
}
webInterface(TransformStream);

function pendingReads(readable) {
  const state = readableState(readable);
  return () => state.requests.length > 0;
}

// A pair of streams that is one of the transforms below.
class Pair {
  #transform;

  constructor(transformer) {
    this.#transform = new TransformStream(transformer);
  }

  get readable() { return this.#transform.readable; }
  get writable() { return this.#transform.writable; }
}

export class TextEncoderStream extends Pair {
  constructor() {
    // Half of a character waits for its other half.
    let half = "";
    super({
      transform(chunk, controller) {
        let text = half + `${chunk}`;
        const last = text.charCodeAt(text.length - 1);
        half = last >= 0xd800 && last <= 0xdbff ? text.slice(-1) : "";
        if (half) text = text.slice(0, -1);
        if (text) controller.enqueue(encode(text));
      },
      flush(controller) {
        if (half) controller.enqueue(encode(half));
      },
    });
  }

  get encoding() { return "utf-8"; }
}
webInterface(TextEncoderStream);

export class TextDecoderStream extends Pair {
  #decoder;

  constructor(label = "utf-8", options = {}) {
    const decoder = new TextDecoder(label, options);
    super({
      transform(chunk, controller) {
        const text = decoder.decode(chunk, { stream: true });
        if (text) controller.enqueue(text);
      },
      flush(controller) {
        const text = decoder.decode();
        if (text) controller.enqueue(text);
      },
    });
    this.#decoder = decoder;
  }

  get encoding() { return this.#decoder.encoding; }
  get fatal() { return this.#decoder.fatal; }
  get ignoreBOM() { return this.#decoder.ignoreBOM; }
}
webInterface(TextDecoderStream);

// A transform that passes bytes through, as Workers have it.
export class IdentityTransformStream extends TransformStream {
  constructor() {
    super();
  }
}
webInterface(IdentityTransformStream);
