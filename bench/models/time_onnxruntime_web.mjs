// Times a model in ONNX Runtime Web (wasm with SIMD, one thread) in Node, for compare.py: speaks as
// guest-sdk/examples/time_tract.rs does. Usage: node time_onnxruntime_web.mjs PEERS MODEL.onnx INPUT...
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { createInterface } from "node:readline";

const [peers, path, ...given] = process.argv.slice(2);
const require = createRequire(`${peers}/node_modules/x.js`);
const loaded = await import(pathToFileURL(require.resolve("onnxruntime-web/wasm")).href);
const ort = loaded.env ? loaded : loaded.default;
ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";
const session = await ort.InferenceSession.create(readFileSync(path), { logSeverityLevel: 3 });
const types = {
  FP32: ["float32", Float32Array],
  INT32: ["int32", Int32Array],
  INT64: ["int64", BigInt64Array],
};
const inputs = {};
for (const argument of given) {
  const [file, shape, datatype, ...name] = argument.split(":").reverse();
  const bytes = readFileSync(file);
  const [type, array] = types[datatype];
  const data = new array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  inputs[name.reverse().join(":")] = new ort.Tensor(type, data, shape.split("x").map(Number));
}
let outputs = await session.run(inputs);
console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const [what, file] = line.split(" ");
  if (what === "run") {
    const wall = process.hrtime.bigint(), before = process.cpuUsage();
    outputs = await session.run(inputs);
    const cpu = process.cpuUsage(before);
    console.log(`${Number(process.hrtime.bigint() - wall) / 1e6} ${(cpu.user + cpu.system) / 1e3}`);
  } else {
    const all = session.outputNames.flatMap((name) => Array.from(outputs[name].data, Number));
    writeFileSync(file, new Uint8Array(new Float32Array(all).buffer));
    console.log("written");
  }
}
