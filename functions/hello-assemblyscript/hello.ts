// The smallest function in AssemblyScript: a WASI command that speaks CGI/1.1.
//
//     npm ci && npm run build
import { poll_oneoff } from "@assemblyscript/wasi-shim/assembly/bindings/wasi_snapshot_preview1";

/** Waits, by the one WASI call that can: a subscription to the monotonic clock, as the witx file lays it out. */
function sleep(milliseconds: u64): void {
  const subscription = memory.data(48, 8);
  const event = memory.data(32, 8);
  memory.fill(subscription, 0, 48);
  store<u32>(subscription, 1, 16);
  store<u64>(subscription, milliseconds * 1_000_000, 24);
  poll_oneoff(subscription, event, 1, memory.data(4, 4));
}

function variable(name: string): string {
  return process.env.has(name) ? process.env.get(name) : "";
}

process.stdout.write("Content-Type: text/plain; charset=utf-8\n\n");
if (variable("QUERY_STRING") != "stream") {
  process.stdout.write(`Hello from AssemblyScript, ${variable("REMOTE_ADDR")}\n`);
} else {
  // What is written goes out at once: the client sees each line when it is there.
  for (let n = 1; n <= 3; n++) {
    process.stdout.write(`line ${n}\n`);
    sleep(100);
  }
}
