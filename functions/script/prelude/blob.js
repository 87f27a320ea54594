// Blob and File.

import { bytesOf, isBufferSource, needs, usv, webInterface } from "mayfly:errors";
import { decodeBody, encode } from "mayfly:encoding";
import { ReadableStream } from "mayfly:readable";
import { cloneAs } from "mayfly:clone";

const PIECE = 65536;
const typeOf = (type) => (/^[\x20-\x7e]*$/.test(type) ? type.toLowerCase() : "");
let contents;

export class Blob {
  #bytes;
  #type;

  constructor(parts = [], options = {}) {
    if (typeof parts !== "object" || parts === null || typeof parts[Symbol.iterator] !== "function") {
      throw new TypeError("a Blob is made of a list of parts");
    }
    const pieces = [];
    for (const part of parts) {
      if (part instanceof Blob) pieces.push(part.#bytes);
      else if (isBufferSource(part)) pieces.push(bytesOf(part));
      else {
        const text = usv(part);
        pieces.push(encode(options?.endings === "native" ? text.replace(/\r\n?/g, "\n") : text));
      }
    }
    this.#bytes = concat(pieces);
    this.#type = typeOf(`${options?.type ?? ""}`);
  }

  static {
    contents = (blob) => blob.#bytes;
  }

  get size() { return this.#bytes.length; }
  get type() { return this.#type; }
  async arrayBuffer() { return this.#bytes.slice().buffer; }
  async bytes() { return this.#bytes.slice(); }
  async text() { return decodeBody(this.#bytes); }

  slice(start = 0, end = this.size, type = "") {
    const at = (index) => (index < 0 ? Math.max(this.size + index, 0) : Math.min(index, this.size));
    const [from, to] = [at(Math.trunc(start) || 0), at(Math.trunc(end) || 0)];
    return new Blob([this.#bytes.subarray(from, Math.max(from, to))], { type });
  }

  stream() {
    const bytes = this.#bytes;
    let at = 0;
    return new ReadableStream({
      type: "bytes",
      pull(controller) {
        const piece = bytes.slice(at, at + PIECE);
        at += piece.length;
        if (piece.length > 0) controller.enqueue(piece);
        if (at >= bytes.length) controller.close();
      },
    });
  }
}
webInterface(Blob);

export const blobBytes = (blob) => contents(blob);

export function concat(pieces) {
  if (pieces.length === 1) return pieces[0].slice();
  const all = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

export class File extends Blob {
  #name;
  #lastModified;

  constructor(parts, name, options = {}) {
    needs(2, arguments.length, "File");
    super(parts, options);
    this.#name = usv(name);
    this.#lastModified = options?.lastModified === undefined ? Date.now() : Math.trunc(Number(options.lastModified)) || 0;
  }

  get name() { return this.#name; }
  get lastModified() { return this.#lastModified; }
  get webkitRelativePath() { return ""; }
}
webInterface(File);

cloneAs(File, (file) => new File([file], file.name, { type: file.type, lastModified: file.lastModified }));
cloneAs(Blob, (blob) => new Blob([blob], { type: blob.type }));
