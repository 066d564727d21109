/**
 * Writes what this package does not write itself, offline: the stubs of the contract (from proto/), and the words and
 * the retry policy that all client libraries share (from clients/). With --check it changes nothing and fails where
 * what is committed is not what it would write.
 *
 * The compiler of protocol files is the one that the repository pins for its Python stubs (make setup installs it);
 * the messages of gRPC errors come with the Python packages of the gateway. PROTO_PYTHON and PYTHON name other
 * interpreters that have them.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(dirname(fileURLToPath(import.meta.url)));
const ROOT = dirname(dirname(HERE));
const GENERATED = join(HERE, "src", "gen");
const PROTO_PYTHON = process.env.PROTO_PYTHON ?? join(ROOT, ".venv-proto", "bin", "python");
const PYTHON = process.env.PYTHON ?? join(ROOT, ".venv", "bin", "python");
/** What a relying service calls, and what errors bring. */
const PROTOS = [
  "recognition/v1/verification.proto",
  "recognition/v1/audit.proto",
  "recognition/v1/reason.proto",
  "google/rpc/status.proto",
  "google/rpc/error_details.proto",
];
const OPTIONS = [
  "env=node",
  "esModuleInterop=true",
  "importSuffix=.js",
  "outputServices=grpc-js",
  "oneof=unions-value",
  "useDate=true",
  "removeEnumPrefix=true",
  // A number that is not known yet stays the number that it is.
  "unrecognizedEnum=false",
  "outputJsonMethods=false",
  "exportCommonSymbols=false",
  "useExactTypes=false",
];

const folder = process.argv[2] === "--check" ? mkdtempSync(join(tmpdir(), "stubs-")) : GENERATED;
if (folder === GENERATED) {
  rmSync(GENERATED, { recursive: true, force: true });
}
writeStubs();
write("words.ts", words(readJson("texts.json")));
write("service-config.ts", serviceConfig(readJson("service-config.json")));
if (folder !== GENERATED) {
  const fresh = readAll(folder);
  const committed = readAll(GENERATED);
  const stale = [...new Set([...fresh.keys(), ...committed.keys()])].filter((f) => fresh.get(f) !== committed.get(f));
  rmSync(folder, { recursive: true });
  if (stale.length > 0) {
    console.error(`src/gen is not current: run npm run generate and commit what it changes.\n${stale.join("\n")}`);
    process.exitCode = 1;
  }
}

function writeStubs() {
  const where = "import google.rpc, os; print(os.path.dirname(os.path.dirname(google.rpc.__path__[0])))";
  const googleapis = execFileSync(PYTHON, ["-c", where], { encoding: "utf8" }).trim();
  const out = mkdtempSync(join(tmpdir(), "protoc-"));
  execFileSync(
    PROTO_PYTHON,
    [
      ...["-m", "grpc_tools.protoc", "-I", join(ROOT, "proto"), "-I", googleapis],
      `--plugin=protoc-gen-ts_proto=${join(HERE, "node_modules", ".bin", "protoc-gen-ts_proto")}`,
      `--ts_proto_out=${out}`,
      `--ts_proto_opt=${OPTIONS.join(",")}`,
      ...PROTOS,
    ],
    { stdio: "inherit" },
  );
  for (const [file, text] of readAll(out)) {
    write(file, text);
  }
  rmSync(out, { recursive: true });
}

function words({ reasons, next_steps: steps }) {
  const banner = "// Written by npm run generate from clients/texts.json. DO NOT EDIT.\n\n";
  const reasonMembers = Object.entries(reasons).map(([name, { number, next, zh, en }]) => {
    const text = ({ what, next_step }) => `{ what: ${JSON.stringify(what)}, nextStep: ${JSON.stringify(next_step)} }`;
    return `  ${name}: {\n    number: ${number},\n    nextStep: "${next}",\n    zh: ${text(zh)},\n    en: ${text(en)},\n  },`;
  });
  const stepMembers = Object.entries(steps).map(
    ([name, { number, zh, en }]) =>
      `  ${name}: { number: ${number}, zh: ${JSON.stringify(zh)}, en: ${JSON.stringify(en)} },`,
  );
  return (
    `${banner}export const REASONS = {\n${reasonMembers.join("\n")}\n} as const;\n\n` +
    `export const NEXT_STEPS = {\n${stepMembers.join("\n")}\n} as const;\n`
  );
}

function serviceConfig(config) {
  const banner = "// Written by npm run generate from clients/service-config.json. DO NOT EDIT.\n\n";
  return `${banner}export const SERVICE_CONFIG = ${JSON.stringify(config, null, 2)};\n`;
}

function readJson(name) {
  return JSON.parse(readFileSync(join(ROOT, "clients", name), "utf8"));
}

function readAll(from) {
  const files = readdirSync(from, { recursive: true, withFileTypes: true }).filter((each) => each.isFile());
  const paths = files.map((each) => resolve(each.parentPath ?? each.path, each.name)).sort();
  return new Map(paths.map((path) => [relative(from, path), readFileSync(path, "utf8")]));
}

function write(file, text) {
  const path = join(folder, file);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
