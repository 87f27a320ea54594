import { BodyWriter, handle, Request, Response } from "./mayfly";

export { mayfly_abi_1, mayfly_handle } from "./mayfly";

function greeting(query: string): string {
  if (!query.startsWith("name=")) return "Hello from AssemblyScript\n";
  return `Hello ${query.substring(5)}, from AssemblyScript\n`;
}

/** A request's body as the response's: it goes out as it comes in. */
function echo(request: Request, out: BodyWriter): void {
  const bytes = new Uint8Array(16384);
  while (true) {
    const n = request.read(bytes);
    if (n <= 0 || !out.write(bytes.subarray(0, n))) return;
  }
}

function lines(_: Request, out: BodyWriter): void {
  for (let n = 1; n <= 3; n++) {
    if (!out.print(`line ${n}\n`)) return;
  }
}

handle((request: Request): Response => {
  const isRoot = request.path == "/";
  if (isRoot && request.method == "POST") return Response.streamed(echo);
  if (isRoot) return Response.text(greeting(request.query));
  if (request.path == "/lines") return Response.streamed(lines).with("content-type", "text/plain; charset=utf-8");
  return Response.problem(404, "no such page");
});
