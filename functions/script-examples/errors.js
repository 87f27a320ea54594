// What goes wrong and what becomes of it: an answer where it is foreseen, a 502 without words where it is not.
class NotFound extends Error {}

function find(path) {
  if (path === "/missing") throw new NotFound(path);
  if (path === "/bug") return undefined.length;
  return path;
}

export default {
  async fetch(request) {
    try {
      return new Response(find(new URL(request.url).pathname));
    } catch (error) {
      if (error instanceof NotFound) return new Response(`no ${error.message}\n`, { status: 404 });
      throw error;
    }
  },
};
