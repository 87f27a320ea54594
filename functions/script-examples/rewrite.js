// HTML that comes in, with its links made https and a banner put into its body.
export default {
  async fetch(request) {
    const html = await request.text();
    const out = html
      .replace(/(href|src)="http:\/\//g, '$1="https://')
      .replace(/<body([^>]*)>/i, (tag) => `${tag}<p class="banner">Hello</p>`);
    return new Response(out, { headers: { "content-type": "text/html; charset=utf-8" } });
  },
};
