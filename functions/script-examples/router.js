// A JSON API with a router of patterns; its data is read once, at deploy.
import data from "./people.json";

const people = new Map(data.map((person) => [person.id, person]));
const routes = [
  ["GET", new URLPattern({ pathname: "/people" }), (_, url) => list(url.searchParams.get("city"))],
  ["GET", new URLPattern({ pathname: "/people/:id(\\d+)" }), ({ id }) => one(Number(id))],
];

const list = (city) => Response.json([...people.values()].filter((person) => !city || person.city === city));
const one = (id) => (people.has(id) ? Response.json(people.get(id)) : Response.json({ error: "no such person" }, { status: 404 }));

export const warmup = "/people/1";

export default {
  async fetch(request) {
    const url = new URL(request.url);
    const found = routes.find(([, pattern]) => pattern.test(request.url));
    if (!found) return Response.json({ error: "no such path" }, { status: 404 });
    const [method, pattern, handle] = found;
    if (method !== request.method) return new Response(null, { status: 405, headers: { allow: method } });
    return handle(pattern.exec(request.url).pathname.groups, url);
  },
};
