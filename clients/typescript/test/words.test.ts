import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type Language, NextStep, nextStepText, Profile, Reason, reasonText } from "recognition-client";
import { reason, verification } from "recognition-client/stubs";

const LANGUAGES: readonly Language[] = ["zh", "en"];

test("every reason and every step of the contract has words in both languages", () => {
  const contract = Object.keys(reason.Reason).filter((each) => Number.isNaN(Number(each)) && each !== "UNSPECIFIED");
  assert.deepEqual(Object.keys(Reason).sort(), [...contract, "UNRECOGNISED"].sort());
  const steps = Object.keys(verification.NextStep).filter(
    (each) => Number.isNaN(Number(each)) && each !== "UNSPECIFIED",
  );
  assert.deepEqual(Object.keys(NextStep).sort(), steps.sort());
  for (const language of LANGUAGES) {
    for (const each of Object.values(Reason)) {
      const { what, nextStep } = reasonText(each, language);
      assert(what && nextStep, each);
    }
    for (const each of Object.values(NextStep)) {
      assert(nextStepText(each, language), each);
    }
  }
});

test("a profile names files beside it", async () => {
  const folder = mkdtempSync(join(tmpdir(), "profile-"));
  const file = join(folder, "service.toml");
  writeFileSync(
    file,
    'address = "gateway.example:8443"\nca = "../ca.pem"\ncertificate = "service.pem"\nprivate_key = "/keys/service.key"\n',
  );
  assert.deepEqual(
    { ...(await Profile.read(file)) },
    {
      address: "gateway.example:8443",
      ca: join(folder, "..", "ca.pem"),
      certificate: join(folder, "service.pem"),
      privateKey: "/keys/service.key",
    },
  );
  writeFileSync(file, 'address = "gateway.example:8443"\n');
  await assert.rejects(Profile.read(file), /"ca" is missing/);
  writeFileSync(file, 'address = ""\n');
  await assert.rejects(Profile.read(file), /"address" is missing, empty or/);
  writeFileSync(file, "address = \n");
  await assert.rejects(Profile.read(file), (error: Error) => error.message.startsWith(`${file} is not TOML: `));
  const files = { address: "gateway.example:8443", ca: "ca.pem", certificate: "service.pem", privateKey: "" };
  assert.throws(() => new Profile(files), /privateKey is missing, empty or/);
  rmSync(folder, { recursive: true });
});
