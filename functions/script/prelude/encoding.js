// TextEncoder and TextDecoder, atob and btoa.

import { DOMException, bytesOf, isBufferSource, native, needs, usv, webInterface } from "mayfly:errors";

const EMPTY = new Uint8Array(0);
export const encode = (text) => native.utf8Encode(usv(text));
export const decode = (bytes) => native.utf8Decode(bytes, false);

// Without its mark of the byte order, as bodies are read.
export const decodeBody = (bytes) =>
  decode(bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? bytes.subarray(3) : bytes);

export class TextEncoder {
  get encoding() { return "utf-8"; }

  encode(text = "") {
    return encode(text);
  }

  encodeInto(source, destination) {
    if (!(destination instanceof Uint8Array)) throw new TypeError("encodeInto writes to a Uint8Array");
    const text = usv(source);
    let read = 0;
    let written = 0;
    for (const character of text) {
      const bytes = native.utf8Encode(character);
      if (written + bytes.length > destination.length) break;
      destination.set(bytes, written);
      written += bytes.length;
      read += character.length;
    }
    return { read, written };
  }
}
webInterface(TextEncoder);

const LABELS = {
  "utf-8": ["unicode-1-1-utf-8", "unicode11utf8", "unicode20utf8", "utf-8", "utf8", "x-unicode20utf8"],
  "utf-16le": [
    "csunicode", "iso-10646-ucs-2", "ucs-2", "unicode", "unicodefeff", "utf-16", "utf-16le",
  ],
  "utf-16be": ["unicodefffe", "utf-16be"],
  "windows-1252": [
    "ansi_x3.4-1968", "ascii", "cp1252", "cp819", "csisolatin1", "ibm819", "iso-8859-1", "iso-ir-100", "iso8859-1",
    "iso88591", "iso_8859-1", "iso_8859-1:1987", "l1", "latin1", "us-ascii", "windows-1252", "x-cp1252",
  ],
};
const ENCODINGS = new Map(Object.entries(LABELS).flatMap(([name, labels]) => labels.map((label) => [label, name])));

export class TextDecoder {
  #encoding;
  #fatal;
  #ignoreBOM;
  #pending = EMPTY;
  #begun = false;

  constructor(label = "utf-8", options = {}) {
    const wanted = `${label}`.replace(/^[\t\n\f\r ]+|[\t\n\f\r ]+$/g, "").toLowerCase();
    const encoding = ENCODINGS.get(wanted);
    if (!encoding) {
      throw new RangeError(`there is no encoding "${label}"; Mayfly has utf-8, utf-16le, utf-16be and windows-1252`);
    }
    this.#encoding = encoding;
    this.#fatal = !!options?.fatal;
    this.#ignoreBOM = !!options?.ignoreBOM;
  }

  get encoding() { return this.#encoding; }
  get fatal() { return this.#fatal; }
  get ignoreBOM() { return this.#ignoreBOM; }

  decode(input, options = {}) {
    if (input !== undefined && !isBufferSource(input)) throw new TypeError("decode takes a buffer, or a view of one");
    let bytes = input === undefined ? EMPTY : bytesOf(input);
    if (this.#pending.length > 0) {
      const joined = new Uint8Array(this.#pending.length + bytes.length);
      joined.set(this.#pending);
      joined.set(bytes, this.#pending.length);
      bytes = joined;
    }
    this.#pending = EMPTY;
    const more = !!options?.stream;
    if (more) {
      const tail = this.#tail(bytes);
      this.#pending = bytes.slice(bytes.length - tail);
      bytes = bytes.subarray(0, bytes.length - tail);
    }
    let text = this.#text(bytes);
    if (text === null || text === undefined) {
      this.#pending = EMPTY;
      this.#begun = false;
      throw new TypeError(`the bytes are not ${this.#encoding}`);
    }
    if (!this.#begun && text.length > 0) {
      if (!this.#ignoreBOM && this.#encoding !== "windows-1252" && text.charCodeAt(0) === 0xfeff) text = text.slice(1);
      this.#begun = true;
    }
    if (!more) this.#begun = false;
    return text;
  }

  #tail(bytes) {
    if (this.#encoding === "utf-8") return native.utf8Tail(bytes);
    if (this.#encoding === "windows-1252") return 0;
    const odd = bytes.length % 2;
    const high = bytes[bytes.length - odd - (this.#encoding === "utf-16le" ? 1 : 2)];
    return high >= 0xd8 && high <= 0xdb ? odd + 2 : odd;
  }

  #text(bytes) {
    switch (this.#encoding) {
      case "utf-8": return native.utf8Decode(bytes, this.#fatal);
      case "windows-1252": return native.latin1Decode(bytes, true);
      default: return native.utf16Decode(bytes, this.#encoding === "utf-16be", this.#fatal);
    }
  }
}
webInterface(TextDecoder);

export function btoa(data) {
  needs(1, arguments.length, "btoa");
  const text = native.base64Encode(usv(data));
  if (text === null || text === undefined) {
    throw new DOMException("btoa: a character is no byte; encode it by TextEncoder first", "InvalidCharacterError");
  }
  return text;
}

export function atob(data) {
  needs(1, arguments.length, "atob");
  const bytes = native.base64Decode(usv(data));
  if (!bytes) throw new DOMException("atob: this is no base64", "InvalidCharacterError");
  return native.latin1Decode(bytes, false);
}
