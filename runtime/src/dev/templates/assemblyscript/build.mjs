// node build.mjs OUTPUT: compiles main.ts, with the compiler that package-lock.json names.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

if (!existsSync("node_modules/assemblyscript")) {
  console.log("npm ci: the compiler is installed, once");
  const { status, error } = spawnSync("npm", ["ci", "--no-audit", "--no-fund"], { stdio: "inherit" });
  if (error) console.error(`npm cannot be started: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}
// In this process: a second node would take 40 ms more.
const { default: asc } = await import("assemblyscript/asc");
const { error, stderr } = await asc.main([
  "main.ts",
  "--outFile", process.argv[2],
  "--optimize",
  "--exportStart", "_initialize",
  "--use", "abort=mayfly/abort",
]);
const words = stderr.toString();
if (words) console.error(words);
if (error) process.exit(1);
