// Puts the web's interface among the globals, and exports what the runner calls.

import { DOMException, native } from "mayfly:errors";
import { AbortController, AbortSignal, CustomEvent, ErrorEvent, Event, EventTarget } from "mayfly:events";
import { TextDecoder, TextEncoder, atob, btoa } from "mayfly:encoding";
import { URL, URLSearchParams } from "mayfly:url";
import { URLPattern } from "mayfly:pattern";
import { ByteLengthQueuingStrategy, CountQueuingStrategy } from "mayfly:queues";
import * as readable from "mayfly:readable";
import { WritableStream, WritableStreamDefaultController, WritableStreamDefaultWriter } from "mayfly:writable";
import * as transform from "mayfly:transform";
import { structuredClone } from "mayfly:clone";
import { Blob, File } from "mayfly:blob";
import { FormData } from "mayfly:form";
import { Headers } from "mayfly:headers";
import { Request, Response, useIdentity } from "mayfly:messages";
import { Crypto, CryptoKey, SubtleCrypto, crypto } from "mayfly:crypto";
import { console } from "mayfly:console";
import * as timers from "mayfly:timers";
import { fetch } from "mayfly:fetch";

export { nextTimer, runTimers } from "mayfly:timers";
export { settleFetch } from "mayfly:fetch";
export { adopt, dispatch, place, random, rehearse, rejected, unhandled, warmUp } from "mayfly:dispatch";

useIdentity(() => new transform.TransformStream());

// The engine's own has a seed that a snapshot would freeze.
Object.defineProperty(Math, "random", { value: () => native.random(), writable: true, configurable: true });
Object.defineProperty(Math.random, "name", { value: "random", configurable: true });

const { TransformStream, TransformStreamDefaultController, TextDecoderStream, TextEncoderStream, IdentityTransformStream } =
  transform;
const {
  ReadableByteStreamController, ReadableStream, ReadableStreamBYOBReader, ReadableStreamDefaultController,
  ReadableStreamDefaultReader,
} = readable;
const { clearInterval, clearTimeout, Performance, performance, queueMicrotask, scheduler, setInterval, setTimeout } = timers;

const globals = {
  AbortController, AbortSignal, Blob, ByteLengthQueuingStrategy, CountQueuingStrategy, Crypto, CryptoKey, CustomEvent,
  DOMException, ErrorEvent, Event, EventTarget, File, FormData, Headers, IdentityTransformStream, Performance,
  ReadableByteStreamController, ReadableStream, ReadableStreamBYOBReader, ReadableStreamDefaultController,
  ReadableStreamDefaultReader, Request, Response, SubtleCrypto, TextDecoder, TextDecoderStream, TextEncoder,
  TextEncoderStream, TransformStream, TransformStreamDefaultController, URL, URLPattern, URLSearchParams, WritableStream,
  WritableStreamDefaultController, WritableStreamDefaultWriter, atob, btoa, clearInterval, clearTimeout, console, crypto,
  fetch, performance, queueMicrotask, scheduler, setInterval, setTimeout, structuredClone,
  navigator: { userAgent: "Mayfly", language: "en", hardwareConcurrency: 1 },
};
for (const [name, value] of Object.entries(globals)) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
}
Object.defineProperty(globalThis, "self", { value: globalThis, writable: true, configurable: true });
