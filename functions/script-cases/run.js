// Runs the cases, each on its own, and answers with those that failed and why. A name is a line in passing.txt.

import abort from "./abort.js";
import base64 from "./base64.js";
import bodies from "./bodies.js";
import clone from "./clone.js";
import encoding from "./encoding.js";
import forms from "./forms.js";
import headers from "./headers.js";
import pattern from "./pattern.js";
import streams from "./streams.js";
import url from "./url.js";

const groups = { abort, base64, bodies, clone, encoding, forms, headers, pattern, streams, url };

export async function run() {
  const results = [];
  for (const [group, cases] of Object.entries(groups)) {
    for (const [name, test] of Object.entries(cases)) {
      let why = null;
      try {
        await test();
      } catch (error) {
        why = `${error}`;
      }
      results.push({ name: `${group}: ${name}`, why });
    }
  }
  return results;
}

export default {
  async fetch() {
    return Response.json(await run());
  },
};
