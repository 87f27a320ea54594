// A tag of the content, and 304 for who has it already.
const page = "<h1>Hello</h1>\n";

export default {
  async fetch(request) {
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(page)));
    const etag = `"${[...hash.slice(0, 4)].map((byte) => byte.toString(16).padStart(2, "0")).join("")}"`;
    const headers = { etag, "cache-control": "public, max-age=60", vary: "accept-encoding" };
    if (request.headers.get("if-none-match") === etag) return new Response(null, { status: 304, headers });
    return new Response(page, { headers: { ...headers, "content-type": "text/html" } });
  },
};
