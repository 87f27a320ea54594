// Node.js's fetch as a client of a node. Each line of stdin is a job, each line of stdout what became of it, in JSON:
// peers_clients.py has the fields. Connections are not counted: fetch does not tell.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

async function once(url, body) {
  let status = 'nothing';
  try {
    const response = await fetch(url, { method: 'POST', body, signal: AbortSignal.timeout(30_000) });
    status = response.status;
    return `${status} ${(await response.arrayBuffer()).byteLength}`;
  } catch (error) {
    return `lost: ${status}, then ${error.cause?.code ?? error.cause?.message ?? error.message}`;
  }
}

async function run({ url, file, requests, clients }) {
  const body = readFileSync(file);
  const answers = {};
  let left = requests;
  const client = async () => {
    while (left-- > 0) {
      const answer = await once(url, body);
      answers[answer] = (answers[answer] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return { answers };
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await run(JSON.parse(line))));
}
