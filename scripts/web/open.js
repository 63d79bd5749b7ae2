// {model, feeds} on each line of stdin, bytes in base64; for each, in their order, a line of JSON: null where a session
// opens, and runs on the feeds where there are some; else why not.
import { createInterface } from "node:readline";
import * as ort from "onnxruntime-web";

const ARRAYS = { float32: Float32Array, int32: Int32Array, int64: BigInt64Array, uint8: Uint8Array };

ort.env.wasm.numThreads = 1;
ort.env.logLevel = "fatal";
for await (const line of createInterface({ input: process.stdin })) {
  const { model, feeds } = JSON.parse(line);
  let said = null;
  try {
    const session = await ort.InferenceSession.create(Buffer.from(model, "base64"), {
      executionProviders: ["wasm"],
      logSeverityLevel: 4,
    });
    if (feeds) await session.run(Object.fromEntries(Object.entries(feeds).map(([name, array]) => [name, tensor(array)])));
    await session.release();
  } catch (error) {
    said = String(error.message ?? error);
  }
  console.log(JSON.stringify(said));
}
process.exit(0);

function tensor({ type, dims, data }) {
  const bytes = Buffer.from(data, "base64");
  return new ort.Tensor(type, new ARRAYS[type](bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)), dims);
}
