// What Request and Response have in common: a body, which is bytes, a stream, or what the client sends.

import { bytesOf, isBufferSource, native, usv } from "mayfly:errors";
import { decodeBody, encode } from "mayfly:encoding";
import { URLSearchParams } from "mayfly:url";
import { ReadableStream, isDisturbed } from "mayfly:readable";
import { Blob, blobBytes, concat } from "mayfly:blob";
import { FormData, readForm, writeMultipart } from "mayfly:form";

// A body of what a script gave, and the type that it has by itself.
export function extract(source) {
  if (source === null || source === undefined) return { body: null, type: null };
  if (source instanceof ReadableStream) {
    if (source.locked || isDisturbed(source)) throw new TypeError("the stream is locked, or was read from");
    return { body: { stream: source }, type: null };
  }
  if (source instanceof Blob) return { body: { bytes: blobBytes(source) }, type: source.type || null };
  if (isBufferSource(source)) return { body: { bytes: bytesOf(source).slice() }, type: null };
  if (source instanceof FormData) {
    const { bytes, type } = writeMultipart(source);
    return { body: { bytes }, type };
  }
  if (source instanceof URLSearchParams) {
    return { body: { bytes: encode(`${source}`) }, type: "application/x-www-form-urlencoded;charset=UTF-8" };
  }
  if (typeof source === "object" && typeof source[Symbol.asyncIterator] === "function") {
    return { body: { stream: ReadableStream.from(source) }, type: null };
  }
  return { body: { bytes: encode(usv(source)) }, type: "text/plain;charset=UTF-8" };
}

// A body as a stream, made when it is first asked for.
export function streamOf(body) {
  if (body.stream) return body.stream;
  if (body.incoming) {
    body.stream = new ReadableStream({
      type: "bytes",
      pull(controller) {
        const piece = native.bodyRead();
        if (piece) controller.enqueue(piece);
        else controller.close();
      },
    });
  } else {
    const { bytes } = body;
    body.stream = new ReadableStream({
      type: "bytes",
      start(controller) {
        if (bytes.length > 0) controller.enqueue(bytes.slice());
        controller.close();
      },
    });
  }
  body.bytes = undefined;
  return body.stream;
}

export const isUsed = (body) => body !== null && (body.used === true || (body.stream !== undefined && isDisturbed(body.stream)));

// All of it, once.
export async function consume(body) {
  if (body === null) return new Uint8Array(0);
  if (isUsed(body)) throw new TypeError("the body was read already");
  if (body.stream?.locked) throw new TypeError("the body's stream is locked: it has a reader");
  body.used = true;
  if (body.bytes) return body.bytes;
  if (body.incoming && !body.stream) return native.bodyAll();
  const pieces = [];
  const reader = body.stream.getReader();
  while (true) {
    const { value, done } = await reader.read();
    if (done) break;
    if (!(value instanceof Uint8Array)) throw new TypeError("a body's stream has something else than bytes in it");
    pieces.push(value);
  }
  return concat(pieces);
}

// Two of one, for clone.
export function duplicate(body) {
  if (body === null) return null;
  if (isUsed(body) || body.stream?.locked) throw new TypeError("the body was read already, or its stream is locked");
  if (body.bytes) return { bytes: body.bytes };
  const [own, other] = streamOf(body).tee();
  body.stream = own;
  return { stream: other };
}

// The methods that read a body; `slot` gives it, and the headers' type.
export function withBody(type, slot) {
  const methods = {
    get body() {
      const { body } = slot(this);
      return body === null ? null : streamOf(body);
    },
    get bodyUsed() { return isUsed(slot(this).body); },
    async arrayBuffer() { return (await consume(slot(this).body)).slice().buffer; },
    async bytes() { return (await consume(slot(this).body)).slice(); },
    async text() { return decodeBody(await consume(slot(this).body)); },
    async json() { return JSON.parse(decodeBody(await consume(slot(this).body))); },
    async blob() {
      const bytes = await consume(slot(this).body);
      return new Blob([bytes], { type: this.headers.get("content-type") ?? "" });
    },
    async formData() {
      const kind = this.headers.get("content-type") ?? "";
      return readForm(await consume(slot(this).body), kind);
    },
  };
  Object.defineProperties(type.prototype, Object.getOwnPropertyDescriptors(methods));
}
