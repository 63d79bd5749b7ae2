// Greedy decoding of a graphopt package with onnxruntime-web, in node as in a page: `read` gives the bytes of a file of it.

/** The graph of the package, and what its call leaves to the next. */
export async function open(ort, read, threads) {
  const json = async (name) => JSON.parse(new TextDecoder().decode(await read(name)));
  const graph = (await json("graphopt.json")).graphs.model;
  const settings = (await json("config.json"))["transformers.js_config"];
  const [folder, file] = graph.file.split("/");
  const externalData = [];
  for (let index = 0; index < (settings.use_external_data_format[file] ?? 0); index++) {
    const path = `${file}_data${index ? `_${index}` : ""}`;
    externalData.push({ path, data: await read(`${folder}/${path}`) });
  }
  ort.env.wasm.numThreads = threads;
  const session = await ort.InferenceSession.create(await read(graph.file), {
    executionProviders: ["wasm"],
    externalData,
  });
  return { session, graph };
}

/** `count` tokens after `prompt`, each with how much likelier its logit says it is than that of the second. */
export async function generate(ort, { session, graph }, prompt, count) {
  let past = Object.fromEntries(
    graph.inputs
      .filter((input) => input.name in graph.states)
      .map(({ name, shape }) => {
        const dims = shape.map((dim, axis) => (axis === 0 ? 1 : typeof dim === "number" ? dim : 0));
        return [name, new ort.Tensor("float32", new Float32Array(dims.reduce((a, b) => a * b)), dims)];
      }),
  );
  const integers = (numbers) =>
    new ort.Tensor("int64", BigInt64Array.from(numbers, BigInt), [1, numbers.length]);
  const tokens = [];
  const margins = [];
  let fed = prompt;
  for (let total = prompt.length; tokens.length < count; total++) {
    const given = {
      input_ids: integers(fed),
      attention_mask: integers(Array(total).fill(1)),
      position_ids: integers(fed.map((_, index) => total - fed.length + index)),
    };
    const feeds = Object.fromEntries(Object.entries(given).filter(([name]) => session.inputNames.includes(name)));
    const results = await session.run({ ...feeds, ...past });
    const [token, margin] = best(results.logits);
    tokens.push(token);
    margins.push(margin);
    past = Object.fromEntries(Object.entries(graph.states).map(([input, output]) => [input, results[output]]));
    fed = [token];
  }
  return { tokens, margins };
}

/** The likeliest token at the last position, and how far the next one is behind it. */
function best({ data, dims }) {
  const last = data.subarray(data.length - dims[2]);
  let token = 0;
  let second = -Infinity;
  for (let index = 1; index < last.length; index++) {
    if (last[index] > last[token]) {
      second = last[token];
      token = index;
    } else if (last[index] > second) {
      second = last[index];
    }
  }
  return [token, last[token] - second];
}
