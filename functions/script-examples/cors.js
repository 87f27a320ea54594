// Cross-origin requests of one site, preflights among them.
const ALLOWED = new Set(["https://app.example.com"]);

function cors(request) {
  const origin = request.headers.get("origin");
  return ALLOWED.has(origin) ? { "access-control-allow-origin": origin, vary: "origin" } : { vary: "origin" };
}

export default {
  async fetch(request) {
    if (request.method === "OPTIONS") {
      return new Response(null, {
        status: 204,
        headers: { ...cors(request), "access-control-allow-methods": "GET, POST", "access-control-max-age": "600" },
      });
    }
    return Response.json({ ok: true }, { headers: cors(request) });
  },
};
