// From the Encoding standard.

import { same, throws } from "./check.js";

const decode = (label, bytes, text, options) => () => same(new TextDecoder(label, options).decode(new Uint8Array(bytes)), text);
const fatal = (bytes) => () => throws(() => new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(bytes)), "TypeError");

export default {
  "encode": () => same([...new TextEncoder().encode("a¢€😀")], [97, 194, 162, 226, 130, 172, 240, 159, 152, 128]),
  "encode nothing": () => same(new TextEncoder().encode().length, 0),
  "encode half a pair": () => same([...new TextEncoder().encode("a\ud83d")], [97, 239, 191, 189]),
  "encodeInto stops at a character": () => {
    const into = new Uint8Array(4);
    same([new TextEncoder().encodeInto("a€😀", into), [...into]], [{ read: 2, written: 4 }, [97, 226, 130, 172]]);
  },
  "decode": decode("utf-8", [240, 159, 152, 128], "😀"),
  "mark of the byte order goes": decode("utf-8", [239, 187, 191, 97], "a"),
  "mark of the byte order stays if it shall": decode("utf-8", [239, 187, 191, 97], "\ufeffa", { ignoreBOM: true }),
  "broken bytes": decode("utf-8", [0x61, 0xff, 0x62], "a\ufffdb"),
  "each piece of a broken character is one": decode("utf-8", [0xf0, 0x9f, 0x41], "\ufffdA"),
  "too long a spelling": decode("utf-8", [0xc0, 0x80], "\ufffd\ufffd"),
  "a surrogate": decode("utf-8", [0xed, 0xa0, 0x80], "\ufffd\ufffd\ufffd"),
  "fatal": fatal([0xff]),
  "fatal at the end": fatal([0xe2, 0x82]),
  "label with spaces": decode(" UTF8\n", [97], "a"),
  "names": () => same(["latin1", "ascii", "utf-16", "unicodefffe"].map((label) => new TextDecoder(label).encoding),
    ["windows-1252", "windows-1252", "utf-16le", "utf-16be"]),
  "no such label": () => throws(() => new TextDecoder("utf-99"), "RangeError"),
  "windows-1252": decode("latin1", [0x80, 0xe9, 0x9f], "€éŸ"),
  "utf-16le": decode("utf-16le", [0x3d, 0xd8, 0x00, 0xde], "😀"),
  "utf-16be": decode("utf-16be", [0xfe, 0xff, 0x20, 0xac], "€"),
  "utf-16 of an odd number": decode("utf-16le", [0x61, 0x00, 0x62], "a\ufffd"),
  "utf-16 half a pair": decode("utf-16le", [0x00, 0xd8, 0x61, 0x00], "\ufffda"),
  "in pieces": () => {
    const decoder = new TextDecoder();
    const bytes = [0xe2, 0x82, 0xac, 0x61];
    same(bytes.map((byte) => decoder.decode(new Uint8Array([byte]), { stream: true })).join("|") + decoder.decode(), "||€|a");
  },
  "in pieces, cut off": () => {
    const decoder = new TextDecoder();
    same([decoder.decode(new Uint8Array([0xe2]), { stream: true }), decoder.decode()], ["", "\ufffd"]);
  },
  "a view, and a DataView": () => {
    const buffer = new Uint8Array([97, 98, 99]).buffer;
    same([new TextDecoder().decode(new DataView(buffer, 1)), new TextDecoder().decode(buffer)], ["bc", "abc"]);
  },
  "what is no buffer": () => throws(() => new TextDecoder().decode("a"), "TypeError"),
};
