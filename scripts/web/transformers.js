// {root, prompts, count} on stdin, `root` the folder above "package"; texts on stdout. In node transformers.js runs on
// onnxruntime-node.
import { text } from "node:stream/consumers";
import { env, pipeline } from "@huggingface/transformers";
import { answer } from "./pipeline.js";

const asked = JSON.parse(await text(process.stdin));
console.log(JSON.stringify(await answer(env, pipeline, asked.root, asked)));
process.exit(0);
