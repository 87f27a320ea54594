// FormData, and forms in bodies: multipart and urlencoded.

import { native, needs, usv, webInterface } from "mayfly:errors";
import { decode, decodeBody, encode } from "mayfly:encoding";
import { Blob, File, blobBytes, concat } from "mayfly:blob";

export class FormData {
  #list = [];

  constructor(form = undefined) {
    if (form !== undefined) throw new TypeError("there are no forms to make FormData of; append what it shall have");
  }

  append(name, value, filename) {
    needs(2, arguments.length, "append");
    this.#list.push(entry(name, value, filename));
  }

  set(name, value, filename) {
    needs(2, arguments.length, "set");
    const made = entry(name, value, filename);
    const at = this.#list.findIndex(([key]) => key === made[0]);
    if (at < 0) {
      this.#list.push(made);
      return;
    }
    this.#list[at] = made;
    this.#list = this.#list.filter(([key], index) => index <= at || key !== made[0]);
  }

  delete(name) {
    const key = usv(name);
    this.#list = this.#list.filter(([own]) => own !== key);
  }

  get(name) {
    const key = usv(name);
    return this.#list.find(([own]) => own === key)?.[1] ?? null;
  }

  getAll(name) {
    const key = usv(name);
    return this.#list.filter(([own]) => own === key).map(([, value]) => value);
  }

  has(name) {
    const key = usv(name);
    return this.#list.some(([own]) => own === key);
  }

  forEach(callback, self = undefined) {
    for (const [name, value] of this) callback.call(self, value, name, this);
  }

  *entries() { for (const [name, value] of this.#list) yield [name, value]; }
  *keys() { for (const [name] of this.#list) yield name; }
  *values() { for (const [, value] of this.#list) yield value; }
}
webInterface(FormData);
Object.defineProperty(FormData.prototype, Symbol.iterator, {
  value: FormData.prototype.entries, writable: true, configurable: true,
});

function entry(name, value, filename) {
  const key = usv(name);
  if (!(value instanceof Blob)) {
    if (filename !== undefined) throw new TypeError("what has a file's name is a Blob");
    return [key, usv(value)];
  }
  if (value instanceof File && filename === undefined) return [key, value];
  const named = filename === undefined ? "blob" : usv(filename);
  return [key, new File([value], named, { type: value.type, lastModified: value.lastModified })];
}

const LINE = encode("\r\n");
const escapeName = (name) => name.replace(/\r\n|\r|\n/g, "%0D%0A").replace(/"/g, "%22");
const lines = (text) => text.replace(/\r\n?|\n/g, "\r\n");

// A form as multipart: its bytes and its type.
export function writeMultipart(form) {
  // What draws random numbers is not in a snapshot: a body is made while a request is answered, or has none to hide.
  const boundary = `----formdata-${Array.from({ length: 4 }, () => Math.random().toString(36).slice(2, 8)).join("")}`;
  const pieces = [];
  for (const [name, value] of form) {
    const head = `--${boundary}\r\nContent-Disposition: form-data; name="${escapeName(lines(name))}"`;
    if (typeof value === "string") {
      pieces.push(encode(`${head}\r\n\r\n${lines(value)}\r\n`));
    } else {
      const type = value.type || "application/octet-stream";
      pieces.push(encode(`${head}; filename="${escapeName(value.name)}"\r\nContent-Type: ${type}\r\n\r\n`));
      pieces.push(blobBytes(value), LINE);
    }
  }
  pieces.push(encode(`--${boundary}--\r\n`));
  return { bytes: concat(pieces), type: `multipart/form-data; boundary=${boundary}` };
}

const refuse = () => new TypeError("the body is no form that can be read");

// A body as a form, by its type.
export function readForm(bytes, type) {
  const kind = type.split(";")[0].trim().toLowerCase();
  const form = new FormData();
  if (kind === "application/x-www-form-urlencoded") {
    const words = native.formParse(decodeBody(bytes));
    for (let at = 0; at < words.length; at += 2) form.append(words[at], words[at + 1]);
    return form;
  }
  if (kind !== "multipart/form-data") {
    throw new TypeError(`formData: the body's type is "${type}", and no form's`);
  }
  const boundary = /;\s*boundary=(?:"([^"]*)"|([^;\s]+))/i.exec(type);
  if (!boundary) throw refuse();
  readParts(bytes, encode(`--${boundary[1] ?? boundary[2]}`), form);
  return form;
}

function readParts(bytes, dashes, form) {
  const delimiter = concat([LINE, dashes]);
  const blank = encode("\r\n\r\n");
  let at = native.indexOf(bytes, dashes, 0);
  if (at < 0) throw refuse();
  at += dashes.length;
  while (true) {
    if (bytes[at] === 45 && bytes[at + 1] === 45) return;
    // Spaces may stand behind a boundary.
    while (bytes[at] === 32 || bytes[at] === 9) at++;
    if (bytes[at] !== 13 || bytes[at + 1] !== 10) throw refuse();
    const headEnd = native.indexOf(bytes, blank, at);
    const next = native.indexOf(bytes, delimiter, headEnd < 0 ? at : headEnd + 2);
    if (headEnd < 0 || next < 0) throw refuse();
    addPart(form, decode(bytes.subarray(at + 2, headEnd)), bytes.slice(headEnd + 4, Math.max(headEnd + 4, next)));
    at = next + delimiter.length;
  }
}

function addPart(form, head, body) {
  const headers = new Map(head.split("\r\n").map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim()];
  }));
  const disposition = headers.get("content-disposition") ?? "";
  const parameter = (name) => {
    const found = new RegExp(`;\\s*${name}="((?:[^"\\\\]|\\\\.)*)"`, "i").exec(disposition);
    return found && found[1].replace(/%22/g, '"').replace(/%0D%0A/gi, "\r\n").replace(/\\(["\\])/g, "$1");
  };
  const name = parameter("name");
  if (!/^form-data/i.test(disposition) || name === null) throw refuse();
  const filename = parameter("filename");
  if (filename === null) form.append(name, decodeBody(body));
  else form.append(name, new File([body], filename, { type: headers.get("content-type") ?? "text/plain" }));
}
