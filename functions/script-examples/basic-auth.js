// A password by HTTP's basic scheme, from a secret, compared in constant time.
const same = (a, b) => {
  const [x, y] = [new TextEncoder().encode(a), new TextEncoder().encode(b)];
  return x.length === y.length && crypto.subtle.timingSafeEqual(x, y);
};

export default {
  fetch(request, env) {
    const [scheme, code] = (request.headers.get("authorization") ?? "").split(" ");
    let given = "";
    try {
      given = scheme === "Basic" ? atob(code) : "";
    } catch {
      return new Response("malformed\n", { status: 400 });
    }
    if (!same(given, `admin:${env.PASSWORD}`)) {
      return new Response("who is there?\n", { status: 401, headers: { "www-authenticate": 'Basic realm="here"' } });
    }
    return new Response("welcome\n", { headers: { "cache-control": "no-store" } });
  },
};
