// A page from a template that is a file beside it, with its holes filled in and escaped.
import page from "./page.html";

const escape = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

export default {
  fetch(request) {
    const name = new URL(request.url).searchParams.get("name") ?? "world";
    return new Response(page.replaceAll("{{name}}", escape(name)), { headers: { "content-type": "text/html;charset=utf-8" } });
  },
};
