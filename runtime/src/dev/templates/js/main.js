// The top level runs once, at deploy; what it makes is there for every request, in a fresh heap each.
const encoder = new TextEncoder();

function greeting(name) {
  return name ? `Hello ${name}, from JavaScript\n` : "Hello from JavaScript\n";
}

function lines(count) {
  let n = 0;
  return new ReadableStream({
    pull(controller) {
      n += 1;
      controller.enqueue(encoder.encode(`line ${n}\n`));
      if (n === count) controller.close();
    },
  });
}

export default {
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    if (url.pathname === "/lines") return new Response(lines(3), { headers: { "content-type": "text/plain" } });
    if (url.pathname !== "/") return new Response("no such page\n", { status: 404 });
    if (request.method === "POST") return new Response(request.body);
    return new Response(greeting(url.searchParams.get("name")));
  },
};
