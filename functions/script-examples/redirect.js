// Redirects by a table, with the query kept.
const moved = new Map([["/old", "/new"], ["/blog", "https://blog.example.com/"]]);

export default {
  fetch(request) {
    const url = new URL(request.url);
    const target = moved.get(url.pathname);
    if (!target) return new Response("not found\n", { status: 404 });
    const location = new URL(target, url);
    location.search = url.search;
    return Response.redirect(location, 301);
  },
};
