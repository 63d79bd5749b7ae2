// Bundles entry.js into the folder that the report is made of, with a record and the licences of what is in it.
import {createHash} from "node:crypto";
import {readFileSync, writeFileSync} from "node:fs";
import {build, version} from "esbuild";

const out = process.argv[2];
const result = await build({
  entryPoints: ["entry.js"],
  bundle: true,
  minify: true,
  metafile: true,
  write: false,
  outfile: "charts.js",
  format: "iife",
  globalName: "Charts",
  target: "es2020",
  legalComments: "none",
});
const [{contents}] = result.outputFiles;
const names = new Set();
for (const path of Object.keys(result.metafile.outputs["charts.js"].inputs)) {
  const match = path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)\//);
  if (match) names.add(match[1]);
}
const packages = {};
const licences = [];
for (const name of [...names].sort()) {
  const said = JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8"));
  packages[name] = {version: said.version, license: said.license};
  const text = readFileSync(`node_modules/${name}/LICENSE`, "utf8").trim();
  licences.push(`${name} ${said.version} (${said.license})\n\n${text}\n`);
}
const record = {
  bundler: `esbuild ${version}`,
  sha256: createHash("sha256").update(contents).digest("hex"),
  packages,
};
writeFileSync(`${out}/charts.js`, contents);
writeFileSync(`${out}/charts.json`, JSON.stringify(record, null, 2) + "\n");
writeFileSync(`${out}/charts.LICENSE`, licences.join(`\n${"-".repeat(80)}\n\n`));
console.log(`charts.js: ${contents.length} bytes of ${names.size} packages`);
