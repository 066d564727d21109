/**
 * What the client costs beside a bare generated stub: the same calls over the same TLS, in turns, in one process.
 *
 *   npm run bench -- --stage http://127.0.0.1:PORT --profile .../court.toml --calls 2000
 *
 * The profile is one of the stage's (.venv/bin/python -m tests.clients.stage, in the root of the checkout): court verifies assertions, hukou credentials. CPU
 * time is that of this process, so what the gateway does is not in it. Figures are medians of the rounds.
 */

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { credentials, Metadata } from "@grpc/grpc-js";
import { Profile, RecognitionClient } from "recognition-client";
import { verification } from "recognition-client/stubs";

const ROUNDS = 10;
const CONCURRENCY = 8;

type Verify = (request: verification.VerifyCredentialRequest) => Promise<string | undefined>;

const { values } = parseArgs({
  options: { stage: { type: "string" }, profile: { type: "string" }, calls: { type: "string", default: "2000" } },
});
if (values.stage === undefined || values.profile === undefined) {
  throw new Error("--stage and --profile are needed");
}
const stage = values.stage;
const perRound = Math.ceil(Number(values.calls) / ROUNDS);
const profile = await Profile.read(values.profile);
const profiles = await ask<Record<string, string>>("/profiles");
const name = Object.keys(profiles).find((each) => profiles[each] === values.profile) ?? "court";
const matter = (await ask<Record<string, string>>("/matters"))[name] ?? "";

const client = new RecognitionClient(profile);
const [ca, key, cert] = [profile.ca, profile.privateKey, profile.certificate].map((file) => readFileSync(file));
const stub = new verification.VerificationServiceClient(profile.address, credentials.createSsl(ca, key, cert));
const ways: { readonly [what: string]: Verify } = {
  thin: async (request) => (await client.verify({ ...request, predicates: [] })).verdict.kind,
  bare: (request) =>
    new Promise((resolve, reject) => {
      const deadline = Date.now() + 10_000;
      stub.verifyCredential(request, new Metadata(), { deadline }, (error, answer) =>
        error ? reject(error) : resolve(answer.verdict?.$case),
      );
    }),
};
const rounds = new Map(Object.keys(ways).map((what) => [what, { rates: [] as number[], costs: [] as number[] }]));

for (let round = 0; round <= ROUNDS; round++) {
  const order = Object.entries(ways);
  for (const [what, verify] of round % 2 === 0 ? order : order.reverse()) {
    const requests = await prepare(round === 0 ? Math.min(perRound, 200) : perRound);
    const calls = requests.length;
    const began = performance.now();
    const cpu = process.cpuUsage();
    await run(requests, verify);
    const { user, system } = process.cpuUsage(cpu);
    if (round > 0) {
      // The first round warms up.
      rounds.get(what)?.rates.push((calls * 1_000) / (performance.now() - began));
      rounds.get(what)?.costs.push((user + system) / calls);
    }
  }
}
for (const [what, { rates, costs }] of rounds) {
  const figures = { calls_per_s: median(rates), client_cpu_us_per_call: median(costs) };
  console.log(JSON.stringify({ client: "typescript", what, ...figures }));
}
client.close();
stub.close();

function median(figures: number[]): number {
  return Math.round(figures.sort((a, b) => a - b)[Math.floor(figures.length / 2)] ?? 0);
}

async function run(requests: verification.VerifyCredentialRequest[], verify: Verify): Promise<void> {
  const worker = async () => {
    for (let request = requests.pop(); request !== undefined; request = requests.pop()) {
      const verdict = await verify(request);
      if (verdict !== "accepted") {
        throw new Error(`not accepted: ${verdict}`);
      }
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
}

async function prepare(count: number): Promise<verification.VerifyCredentialRequest[]> {
  const { fromPartial } = verification.VerifyCredentialRequest;
  const requestId = () => `bench-${Math.random().toString(36).slice(2)}`;
  if (name === "court") {
    const { audience } = await client.challenge(matter);
    const { assertions } = await ask<{ assertions: string[] }>("/assertions", { audience, count });
    return assertions.map((presentation) => fromPartial({ matter, presentation, requestId: requestId() }));
  }
  const challenges: { nonce: string; audience: string }[] = [];
  for (let index = 0; index < count; index++) {
    const { nonce, audience } = await client.challenge(matter);
    challenges.push({ nonce, audience });
  }
  const { presentations } = await ask<{ presentations: string[] }>("/presentations", { challenges });
  return presentations.map((presentation, index) =>
    fromPartial({ matter, presentation, nonce: challenges[index]?.nonce ?? "", requestId: requestId() }),
  );
}

async function ask<Answer>(path: string, body?: object): Promise<Answer> {
  const options = body && { method: "POST", body: JSON.stringify(body) };
  const response = await fetch(`${stage}${path}`, options);
  if (!response.ok) {
    throw new Error(await response.text());
  }
  return (await response.json()) as Answer;
}
