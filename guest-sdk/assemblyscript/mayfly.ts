// The SDK for AssemblyScript: one file, without dependencies. What each import does is in docs/abi.md.
//
//     import { handle, Request, Response } from "./mayfly";
//     export { mayfly_abi_1, mayfly_handle } from "./mayfly";
//
//     handle((request: Request): Response => Response.text("Hello from a fresh sandbox\n"));
//
//     asc main.ts -O --exportStart _initialize --use abort=mayfly/abort -o hello.wasm

@external("mayfly_http_v1", "request_head")
declare function requestHead(to: usize, cap: usize): i32;
@external("mayfly_http_v1", "request_body_read")
declare function requestBodyRead(to: usize, cap: usize): i32;
@external("mayfly_http_v1", "response_start")
declare function responseStart(head: usize, headLen: usize, body: usize, len: usize): i32;
@external("mayfly_http_v1", "response_write")
declare function responseWrite(from: usize, len: usize): i32;
@external("mayfly_http_v1", "mark")
declare function hostMark(id: i32): void;
@external("mayfly_fetch_v1", "fetch")
declare function hostFetch(call: usize, callLen: usize, body: usize, len: usize): i32;
@external("mayfly_fetch_v1", "head")
declare function fetchHead(call: i32, to: usize, cap: usize): i32;
@external("mayfly_fetch_v1", "read")
declare function fetchRead(call: i32, to: usize, cap: usize): i32;
@external("mayfly_fetch_v1", "pipe")
declare function fetchPipe(call: i32): i32;
@external("mayfly_fetch_v1", "drop")
declare function fetchDrop(call: i32): void;
@external("mayfly_fetch_v1", "fetch_error")
declare function fetchError(call: i32, to: usize, cap: usize): i32;
@external("wasi_snapshot_preview1", "fd_write")
declare function fdWrite(fd: i32, vectors: usize, count: usize, written: usize): i32;
@external("wasi_snapshot_preview1", "proc_exit")
declare function procExit(code: i32): void;

/** A field of a head; its name is in lower case. */
export class Header {
  constructor(public name: string, public value: string) {}
}

/** A request, and what the host knows beyond it. */
export class Request {
  method: string = "";
  path: string = "";
  query: string = "";
  base: string = "";
  scheme: string = "";
  authority: string = "";
  remote: string = "";
  requestId: string = "";
  /** 10, 11 or 20. */
  version: i32 = 11;
  headers: Header[] = [];

  /** The value of a header, or empty; its name in lower case. */
  header(name: string): string {
    for (let i = 0; i < this.headers.length; i++) {
      if (this.headers[i].name == name) return this.headers[i].value;
    }
    return "";
  }

  /** Waits for bytes of the body and copies as many as fit; 0 is the end, -1 says that the client broke off. */
  read(to: Uint8Array): i32 {
    return requestBodyRead(to.dataStart, to.length);
  }

  /** The whole body; one with more bytes than this, or that broke off, is `null`. */
  bytes(most: i32): Uint8Array | null {
    let all = new Uint8Array(4096);
    let used = 0;
    while (true) {
      if (used == all.length) {
        const larger = new Uint8Array(used * 2);
        larger.set(all);
        all = larger;
      }
      const n = this.read(all.subarray(used));
      if (n < 0) return null;
      if (n == 0) return all.slice(0, used);
      used += n;
      if (used > most) return null;
    }
  }

  /** The whole body as text, as `bytes`. */
  text(most: i32): string | null {
    const bytes = this.bytes(most);
    return bytes == null ? null : String.UTF8.decodeUnsafe(bytes.dataStart, bytes.length);
  }
}

/** Where a stream writes. Each write is sent at once, and waits while the client is slow. */
export class BodyWriter {
  /** False says that the client is gone: end then. */
  write(from: Uint8Array): bool {
    return responseWrite(from.dataStart, from.length) == 0;
  }

  print(text: string): bool {
    const bytes = String.UTF8.encode(text);
    return responseWrite(changetype<usize>(bytes), bytes.byteLength) == 0;
  }
}

/** A response: a head, and a body that is ready, or one that is written once the head is on its way. */
export class Response {
  headers: Header[] = [];
  stream: ((request: Request, out: BodyWriter) => void) | null = null;

  constructor(public status: i32, public body: ArrayBuffer) {}

  /** Adds a header; its name in lower case. */
  with(name: string, value: string): Response {
    this.headers.push(new Header(name, value));
    return this;
  }

  static text(text: string, status: i32 = 200): Response {
    return new Response(status, String.UTF8.encode(text)).with("content-type", "text/plain; charset=utf-8");
  }

  static json(text: string, status: i32 = 200): Response {
    return new Response(status, String.UTF8.encode(text)).with("content-type", "application/json");
  }

  static streamed(write: (request: Request, out: BodyWriter) => void): Response {
    const response = new Response(200, new ArrayBuffer(0));
    response.stream = write;
    return response;
  }

  /** An error that the client sees, as RFC 9457 has it; the detail has neither quotation marks nor backslashes. */
  static problem(status: i32, detail: string): Response {
    const text = `{"status":${status},"detail":"${detail}"}`;
    return new Response(status, String.UTF8.encode(text)).with("content-type", "application/problem+json");
  }

  send(request: Request): void {
    const head: u8[] = [];
    put(head, this.status);
    put(head, this.headers.length);
    for (let i = 0; i < this.headers.length; i++) {
      putText(head, this.headers[i].name);
      putText(head, this.headers[i].value);
    }
    const answer = responseStart(head.dataStart, head.length, changetype<usize>(this.body), this.body.byteLength);
    const write = this.stream;
    if (answer == 0 && write != null) write(request, new BodyWriter());
    // -2: the client is gone, which is no failure.
    if (answer != 0 && answer != -2) fail(`the host refused the response (${answer})`);
  }
}

/** A call of a URL that the deploy allows (`--outbound`). */
export class Call {
  headers: Header[] = [];
  body: ArrayBuffer = new ArrayBuffer(0);
  /** Milliseconds until the answer is read whole; 0 is no clock of its own. */
  timeout: u32 = 0;

  constructor(public method: string, public url: string) {}

  /** Adds a header. */
  with(name: string, value: string): Call {
    this.headers.push(new Header(name, value));
    return this;
  }

  /** Makes the call, and does not wait: several can be under way. */
  start(): Answer {
    const frame: u8[] = [];
    putText(frame, this.method);
    putText(frame, this.url);
    put(frame, <i32>(this.timeout & 0xffff));
    put(frame, <i32>(this.timeout >> 16));
    put(frame, 0);
    put(frame, 0);
    put(frame, this.headers.length);
    for (let i = 0; i < this.headers.length; i++) {
      putText(frame, this.headers[i].name);
      putText(frame, this.headers[i].value);
    }
    return new Answer(hostFetch(frame.dataStart, frame.length, changetype<usize>(this.body), this.body.byteLength));
  }

  /** Makes the call and waits for its answer's head. */
  send(): Answer {
    return this.start().wait();
  }
}

/** An answer, once it was waited for. `error` is 0, or a negative number that says why there is none. */
export class Answer {
  error: i32 = 0;
  status: i32 = 0;
  headers: Header[] = [];

  constructor(public call: i32) {
    if (call < 0) this.error = call;
  }

  /** Waits for the head. */
  wait(): Answer {
    if (this.error != 0) return this;
    let frame = new ArrayBuffer(2048);
    let length = fetchHead(this.call, changetype<usize>(frame), 2048);
    if (length > 2048) {
      frame = new ArrayBuffer(length);
      length = fetchHead(this.call, changetype<usize>(frame), length);
    }
    if (length < 0) {
      this.error = length;
      return this;
    }
    at = changetype<usize>(frame);
    this.status = load<u16>(at);
    const count = load<u16>(at, 2);
    at += 4;
    for (let i = 0; i < <i32>count; i++) {
      const name = next();
      this.headers.push(new Header(name, next()));
    }
    return this;
  }

  /** Waits for bytes of the body and copies as many as fit; 0 is the end, below it is an error. */
  read(to: Uint8Array): i32 {
    return fetchRead(this.call, to.dataStart, to.length);
  }

  /** Sends the rest of the body as the response's, from within its stream; 0, or an error. */
  pipe(): i32 {
    return fetchPipe(this.call);
  }

  /** Ends the call, and makes room for others. */
  drop(): void {
    fetchDrop(this.call);
  }

  /** Why there is no answer, in words. */
  words(): string {
    const words = new ArrayBuffer(1024);
    const length = fetchError(this.call, changetype<usize>(words), 1024);
    return length > 1024 ? "" : String.UTF8.decodeUnsafe(changetype<usize>(words), length);
  }
}

let handler: (request: Request) => Response = (_: Request): Response => Response.problem(501, "handle was not called");

/** Makes a function what this module does with a request. */
export function handle(handle: (request: Request) => Response): void {
  handler = handle;
}

/** Notes the time since the request's arrival under an id, 0 to 7, for `Server-Timing`. */
export function mark(id: i32): void {
  hostMark(id);
}

/** Writes a line to the function's log. */
export function log(text: string): void {
  const bytes = String.UTF8.encode(text + "\n");
  const vector = memory.data(8, 4);
  store<u32>(vector, <u32>changetype<usize>(bytes));
  store<u32>(vector, <u32>bytes.byteLength, 4);
  fdWrite(2, vector, 1, memory.data(4, 4));
}

function fail(why: string): void {
  log("the function failed: " + why);
  procExit(1);
}

/** What the compiler calls for a failed check; `--use abort=mayfly/abort`. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  fail(`${message == null ? "abort" : message} (${file == null ? "?" : file}:${line}:${column})`);
}

export function mayfly_abi_1(): void {}

export function mayfly_handle(): void {
  const request = receive();
  handler(request).send(request);
}

function put(head: u8[], value: i32): void {
  head.push(<u8>value);
  head.push(<u8>(value >> 8));
}

function putText(head: u8[], text: string): void {
  const bytes = Uint8Array.wrap(String.UTF8.encode(text));
  put(head, bytes.length);
  for (let i = 0; i < bytes.length; i++) head.push(bytes[i]);
}

let at: usize = 0;

function next(): string {
  const length = load<u16>(at);
  at += 2 + <usize>length;
  return String.UTF8.decodeUnsafe(at - <usize>length, length);
}

function receive(): Request {
  let frame = new ArrayBuffer(2048);
  const length = requestHead(changetype<usize>(frame), 2048);
  if (length > 2048) {
    frame = new ArrayBuffer(length);
    requestHead(changetype<usize>(frame), length);
  }
  at = changetype<usize>(frame);
  const request = new Request();
  request.method = next();
  const target = next();
  const query = target.indexOf("?");
  request.path = query < 0 ? target : target.substring(0, query);
  request.query = query < 0 ? "" : target.substring(query + 1);
  request.base = next();
  request.scheme = next();
  request.authority = next();
  request.remote = next();
  request.requestId = next();
  request.version = load<u8>(at);
  const count = load<u16>(at + 1);
  at += 3;
  for (let i = 0; i < <i32>count; i++) {
    const name = next();
    request.headers.push(new Header(name, next()));
  }
  return request;
}
