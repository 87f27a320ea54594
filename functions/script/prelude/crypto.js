// crypto: random numbers, hashes, HMAC.

import { DOMException, INTERNAL, bytesOf, isBufferSource, native, webInterface } from "mayfly:errors";

const HASHES = { "SHA-1": 20, "SHA-256": 32, "SHA-384": 48, "SHA-512": 64 };
const BLOCKS = { "SHA-1": 64, "SHA-256": 64, "SHA-384": 128, "SHA-512": 128 };
const INTEGERS = new Set([
  "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array", "Int32Array", "Uint32Array",
  "BigInt64Array", "BigUint64Array",
]);
// Bytes of one call, as the standard has it.
const MOST = 65536;

// What is drawn before the snapshot would be the same in every request.
function fresh(length) {
  if (!native.inRequest()) {
    throw new DOMException(
      "random numbers are drawn while a request is answered: at the top level they would be the same for all requests",
      "NotSupportedError",
    );
  }
  return native.fillRandom(length);
}

function hashOf(algorithm) {
  const name = `${typeof algorithm === "object" && algorithm !== null ? algorithm.name : algorithm}`.toUpperCase();
  if (!(name in HASHES)) throw notThere(`the hash ${name}`);
  return name;
}

const notThere = (what) =>
  new DOMException(`${what} is not in Mayfly; crypto.subtle has SHA-1 to SHA-512, and HMAC`, "NotSupportedError");

export class CryptoKey {
  #inner;

  constructor(key, inner) {
    if (key !== INTERNAL) throw new TypeError("Illegal constructor");
    this.#inner = inner;
  }

  get type() { return "secret"; }
  get extractable() { return this.#inner.extractable; }
  get algorithm() { return this.#inner.algorithm; }
  get usages() { return this.#inner.usages; }
  static _bytes(key) { return key.#inner.bytes; }
}
webInterface(CryptoKey);
const keyBytes = CryptoKey._bytes;
delete CryptoKey._bytes;

const base64url = (bytes) =>
  native.base64EncodeBytes(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

function makeKey(bytes, hash, extractable, usages) {
  for (const usage of usages) {
    if (usage !== "sign" && usage !== "verify") throw new DOMException(`HMAC has no use "${usage}"`, "SyntaxError");
  }
  if (usages.length === 0) throw new DOMException("a key is of no use without usages", "SyntaxError");
  if (bytes.length === 0) throw new DOMException("a key of HMAC has at least a byte", "DataError");
  const algorithm = { name: "HMAC", length: bytes.length * 8, hash: { name: hash } };
  return new CryptoKey(INTERNAL, { bytes, extractable: !!extractable, algorithm, usages: [...new Set(usages)] });
}

function requireHmac(algorithm) {
  const name = `${typeof algorithm === "object" && algorithm !== null ? algorithm.name : algorithm}`.toUpperCase();
  if (name !== "HMAC") throw notThere(name);
}

function requireUse(algorithm, key, usage) {
  requireHmac(algorithm);
  if (!(key instanceof CryptoKey)) throw new TypeError("this is no CryptoKey");
  if (!key.usages.includes(usage)) throw new DOMException(`the key is not for "${usage}"`, "InvalidAccessError");
}

export class SubtleCrypto {
  constructor(key) {
    if (key !== INTERNAL) throw new TypeError("Illegal constructor");
  }

  async digest(algorithm, data) {
    const name = hashOf(algorithm);
    return native.digest(name, bytesOf(data)).buffer;
  }

  async importKey(format, data, algorithm, extractable, usages) {
    requireHmac(algorithm);
    const hash = hashOf(algorithm.hash);
    if (format === "raw") {
      if (!isBufferSource(data)) throw new TypeError("a raw key is a buffer");
      return makeKey(bytesOf(data).slice(), hash, extractable, usages);
    }
    if (format !== "jwk") throw notThere(`the key format ${format}`);
    if (data?.kty !== "oct" || typeof data.k !== "string") throw new DOMException("this is no key of HMAC", "DataError");
    const bytes = native.base64Decode(data.k.replaceAll("-", "+").replaceAll("_", "/"));
    if (!bytes) throw new DOMException("the key is no base64url", "DataError");
    return makeKey(bytes, hash, extractable, usages);
  }

  async generateKey(algorithm, extractable, usages) {
    requireHmac(algorithm);
    const hash = hashOf(algorithm.hash);
    const length = algorithm.length === undefined ? BLOCKS[hash] : Math.ceil(algorithm.length / 8);
    return makeKey(fresh(length), hash, extractable, usages);
  }

  async exportKey(format, key) {
    if (!(key instanceof CryptoKey)) throw new TypeError("this is no CryptoKey");
    if (!key.extractable) throw new DOMException("the key is not to be taken out", "InvalidAccessError");
    if (format === "raw") return keyBytes(key).slice().buffer;
    if (format !== "jwk") throw notThere(`the key format ${format}`);
    const alg = `HS${key.algorithm.hash.name.slice(4)}`;
    return { kty: "oct", k: base64url(keyBytes(key)), alg, ext: true, key_ops: [...key.usages] };
  }

  async sign(algorithm, key, data) {
    requireUse(algorithm, key, "sign");
    return native.hmac(key.algorithm.hash.name, keyBytes(key), bytesOf(data)).buffer;
  }

  async verify(algorithm, key, signature, data) {
    requireUse(algorithm, key, "verify");
    const [own, given] = [native.hmac(key.algorithm.hash.name, keyBytes(key), bytesOf(data)), bytesOf(signature)];
    if (own.length !== given.length) return false;
    // All of it, so that the time it takes tells nothing.
    let differs = 0;
    for (let at = 0; at < own.length; at++) differs |= own[at] ^ given[at];
    return differs === 0;
  }

  // As Workers have it.
  timingSafeEqual(a, b) {
    const [one, other] = [bytesOf(a), bytesOf(b)];
    if (one.length !== other.length) throw new TypeError("timingSafeEqual compares buffers of one length");
    let differs = 0;
    for (let at = 0; at < one.length; at++) differs |= one[at] ^ other[at];
    return differs === 0;
  }
}
for (const name of ["encrypt", "decrypt", "deriveKey", "deriveBits", "wrapKey", "unwrapKey"]) {
  SubtleCrypto.prototype[name] = async () => { throw notThere(`crypto.subtle.${name}`); };
}
webInterface(SubtleCrypto);

export class Crypto {
  #subtle = new SubtleCrypto(INTERNAL);

  constructor(key) {
    if (key !== INTERNAL) throw new TypeError("Illegal constructor");
  }

  get subtle() { return this.#subtle; }

  getRandomValues(array) {
    if (!ArrayBuffer.isView(array) || !INTEGERS.has(array[Symbol.toStringTag])) {
      throw new DOMException("getRandomValues fills an array of integers", "TypeMismatchError");
    }
    if (array.byteLength > MOST) {
      throw new DOMException(`getRandomValues fills ${MOST} bytes at most, not ${array.byteLength}`, "QuotaExceededError");
    }
    bytesOf(array).set(fresh(array.byteLength));
    return array;
  }

  randomUUID() {
    const bytes = fresh(16);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  }
}
webInterface(Crypto);

export const crypto = new Crypto(INTERNAL);
