// Texts by transformers.js's pipeline from a folder or address `root` that holds the package as "package".

export async function answer(env, pipeline, root, { prompts, count }) {
  Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: root, useBrowserCache: false });
  const generator = await pipeline("text-generation", "package");
  const texts = [];
  for (const prompt of prompts) {
    const [{ generated_text }] = await generator(prompt, { max_new_tokens: count, do_sample: false });
    texts.push(generated_text);
  }
  return { version: env.version, texts };
}
