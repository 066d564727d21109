/** The READMEs: their programs run and compile as they stand there, and both have the same. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createPrivateKey } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { promisify } from "node:util";
import { get, holder, STAGED } from "./stage.js";

const PACKAGE = new URL("../../", import.meta.url).pathname;
const run = promisify(execFile);

function blocks(readme: string, language: string): string[] {
  const text = readFileSync(join(PACKAGE, readme), "utf8");
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, "gms"))].map(([, code]) => code ?? "");
}

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "readme-"));
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(PACKAGE, join(folder, "node_modules", "recognition-client"));
});

afterEach(() => rmSync(folder, { recursive: true }));

test("both READMEs have the same programs", () => {
  for (const language of ["sh", "js", "ts"]) {
    assert(blocks("README.md", language).length > 0);
    assert.deepEqual(blocks("README.zh-CN.md", language), blocks("README.md", language));
  }
});

test("the programs compile", async () => {
  writeFileSync(join(folder, "readme.ts"), blocks("README.md", "ts").join("\n"));
  writeFileSync(join(folder, "package.json"), '{"type": "module"}');
  symlinkSync(join(PACKAGE, "node_modules", "@types"), join(folder, "node_modules", "@types"));
  const options = [
    "--noEmit",
    "--strict",
    "--module",
    "nodenext",
    "--target",
    "es2022",
    "--types",
    "node",
    "readme.ts",
  ];
  await run(process.execPath, [join(PACKAGE, "node_modules", "typescript", "bin", "tsc"), ...options], { cwd: folder });
});

test("a forgotten verdict, or an attribute of what was not accepted, does not compile", async () => {
  const [program = ""] = blocks("README.md", "ts");
  const forgetful = program.replace(/ {4}case "indeterminate":[^\n]*\n[^\n]*\n/, "");
  assert.notEqual(forgetful, program);
  const careless = `import type { Decision } from "recognition-client";
    export const name = ({ verdict }: Decision) => verdict.attributes.name;`;
  symlinkSync(join(PACKAGE, "node_modules", "@types"), join(folder, "node_modules", "@types"));
  writeFileSync(join(folder, "package.json"), '{"type": "module"}');
  for (const wrong of [forgetful, careless]) {
    writeFileSync(join(folder, "wrong.ts"), wrong);
    const options = [
      "--noEmit",
      "--strict",
      "--module",
      "nodenext",
      "--target",
      "es2022",
      "--types",
      "node",
      "wrong.ts",
    ];
    const compiled = run(process.execPath, [join(PACKAGE, "node_modules", "typescript", "bin", "tsc"), ...options], {
      cwd: folder,
    });
    await assert.rejects(compiled, (error: { stdout?: string }) => /^wrong\.ts/.test(error.stdout ?? ""));
  }
});

test("the example is accepted once and then rejected", STAGED, async () => {
  const { hukou } = await get<{ hukou: string }>("/profiles");
  const { credential, holder_key: key } = await holder();
  mkdirSync(join(folder, ".lab", "try"), { recursive: true });
  symlinkSync(join(hukou, "..", ".."), join(folder, ".lab", "ah"));
  writeFileSync(join(folder, ".lab", "try", "xu.credential"), `${credential}\n`);
  const pem = createPrivateKey({ key, format: "jwk" }).export({ type: "pkcs8", format: "pem" });
  writeFileSync(join(folder, ".lab", "try", "xu.pem"), pem);
  writeFileSync(join(folder, ".lab", "try", "ask.mjs"), blocks("README.md", "js")[0] ?? "");
  const { stdout, stderr } = await run(process.execPath, [join(".lab", "try", "ask.mjs")], { cwd: folder });
  assert.match(stdout, /^accepted: 徐某\nrejected: REPLAYED \w.*\n$/);
  assert.equal(stderr, "");
});
