/**
 * Builds dist/. npm calls this after `npm ci` here, and when another project installs this folder, which brings no tools
 * along: then they are installed first, as the lock file has them.
 */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(dirname(fileURLToPath(import.meta.url)));
const run = (...command) =>
  execFileSync("npm", command, { cwd: HERE, stdio: "inherit", shell: process.platform === "win32" });

if (!existsSync(join(HERE, "node_modules", "typescript"))) {
  run("ci", "--ignore-scripts");
}
run("run", "build");
