// A chain of steps around a handler, each of which may answer in its place; in TypeScript.
type Handler = (request: Request) => Response | Promise<Response>;
type Step = (next: Handler) => Handler;

const timed: Step = (next) => async (request) => {
  const response = await next(request);
  const copy = new Response(response.body, response);
  copy.headers.set("x-steps", "timed");
  return copy;
};

const onlyJson: Step = (next) => (request) =>
  request.headers.get("accept")?.includes("json") ? next(request) : new Response("JSON only\n", { status: 406 });

const limited = (most: number): Step => (next) => async (request) => {
  const body: string = await request.clone().text();
  return body.length > most ? new Response("too long\n", { status: 413 }) : next(request);
};

const steps = [timed, onlyJson, limited(10)] as const satisfies readonly Step[];
const handle: Handler = async (request) => Response.json({ got: await request.text() });

export default { fetch: steps.reduceRight<Handler>((next, step) => step(next), handle) };
