// The top level runs once, at deploy; what it makes is there for every request, in a fresh heap each.
const encoder = new TextEncoder();

// Variables and secrets of the deploy.
interface Env {
  [name: string]: string;
}

interface Context {
  waitUntil(promise: Promise<unknown>): void;
}

function greeting(name: string | null): string {
  return name ? `Hello ${name}, from TypeScript\n` : "Hello from TypeScript\n";
}

function lines(count: number): ReadableStream<Uint8Array> {
  let n = 0;
  return new ReadableStream<Uint8Array>({
    pull(controller) {
      n += 1;
      controller.enqueue(encoder.encode(`line ${n}\n`));
      if (n === count) controller.close();
    },
  });
}

export default {
  async fetch(request: Request, env: Env, ctx: Context): Promise<Response> {
    const url = new URL(request.url);
    if (url.pathname === "/lines") return new Response(lines(3), { headers: { "content-type": "text/plain" } });
    if (url.pathname !== "/") return new Response("no such page\n", { status: 404 });
    if (request.method === "POST") return new Response(request.body);
    return new Response(greeting(url.searchParams.get("name")));
  },
};
