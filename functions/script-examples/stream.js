// Lines that are streamed as they are made, and a body that is changed while it passes through.
const lines = (count) => new ReadableStream({
  async pull(controller) {
    this.n = (this.n ?? 0) + 1;
    await new Promise((resolve) => setTimeout(resolve, 1));
    controller.enqueue(`data: ${this.n}\n\n`);
    if (this.n >= count) controller.close();
  },
});

export default {
  fetch(request) {
    if (request.method === "POST") {
      const upper = new TransformStream({ transform: (text, out) => out.enqueue(text.toUpperCase()) });
      const body = request.body.pipeThrough(new TextDecoderStream()).pipeThrough(upper).pipeThrough(new TextEncoderStream());
      return new Response(body, { headers: { "content-type": "text/plain" } });
    }
    return new Response(lines(3).pipeThrough(new TextEncoderStream()), { headers: { "content-type": "text/event-stream" } });
  },
};
