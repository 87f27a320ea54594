// A form, urlencoded or multipart, and what was in it.
export default {
  async fetch(request) {
    if (request.method !== "POST") return new Response(null, { status: 405, headers: { allow: "POST" } });
    let form;
    try {
      form = await request.formData();
    } catch (error) {
      return Response.json({ error: "no form" }, { status: 400 });
    }
    const fields = {};
    for (const [name, value] of form) {
      fields[name] = value instanceof File ? { file: value.name, type: value.type, size: value.size } : value;
    }
    return Response.json(fields);
  },
};
