// {package, prompts, count, threads} on stdin; what `generate` gives for each prompt, and the runtime's version, on stdout.
import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import * as ort from "onnxruntime-web";
import { generate, open } from "./decode.js";

const asked = JSON.parse(await text(process.stdin));
const opened = await open(ort, (name) => readFile(`${asked.package}/${name}`), asked.threads);
const answers = [];
for (const prompt of asked.prompts) answers.push(await generate(ort, opened, prompt, asked.count));
console.log(JSON.stringify({ version: ort.env.versions.web, answers }));
process.exit(0); // threads of the runtime go on otherwise
