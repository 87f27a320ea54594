// A or B by a cookie, and who has none gets one by a header that stands for chance.
export default {
  fetch(request) {
    const cookie = request.headers.get("cookie") ?? "";
    let group = /(?:^|; )group=(a|b)(?:;|$)/.exec(cookie)?.[1];
    const headers = new Headers({ "content-type": "text/plain" });
    if (!group) {
      group = Number(request.headers.get("x-dice") ?? Math.random()) < 0.5 ? "a" : "b";
      headers.append("set-cookie", `group=${group}; Path=/; Max-Age=86400`);
    }
    return new Response(`page ${group}\n`, { headers });
  },
};
