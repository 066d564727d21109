/** The client against real gateways of four provinces, over real mutual TLS. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { inspect } from "node:util";
import {
  DeadlineExceeded,
  type Decision,
  InvalidRequest,
  NotPermitted,
  type Outcome,
  Overloaded,
  RecognitionError,
  Refused,
  Unavailable,
  type VerifyRequest,
} from "recognition-client";
import { present } from "recognition-client/holder";
import { assertions, get, holder, post, presentation, type Service, STAGED, service } from "./stage.js";

const STREAMED = process.env.MRG_QUICK ? 1_000 : 10_000;

let hukou: Service;
let court: Service;

before(async () => {
  if (!STAGED.skip) {
    [hukou, court] = await Promise.all([service("hukou"), service("court")]);
  }
});

after(() => {
  hukou?.client.close();
  court?.client.close();
});

/** Has a good presentation, or a bad one of some kind, verified for a household migration. */
async function verifyOne(kind?: string, more: Partial<VerifyRequest> = {}): Promise<Decision> {
  const challenge = await hukou.client.challenge(hukou.matter);
  const presented = await presentation(challenge, kind);
  return hukou.client.verify({ matter: hukou.matter, presentation: presented, nonce: challenge.nonce, ...more });
}

test("a good presentation is accepted", STAGED, async () => {
  const decision = await verifyOne(undefined, { wantReceipt: true });
  const { verdict } = decision;
  assert(verdict.kind === "accepted", inspect(decision));
  assert(verdict.subject && verdict.attributes.name && verdict.holderBound);
  assert.deepEqual([verdict.issuingProvince, verdict.subjectType], ["sh", "natural"]);
  assert.equal(decision.nextStep, "PROCEED");
  assert.equal(decision.receipt?.split(".").length, 3);
  for (const secret of [verdict.subject, String(verdict.attributes.id_number)]) {
    assert(!inspect(decision, { depth: 9 }).includes(secret) && !JSON.stringify(decision).includes(secret));
  }
  const asked = await get<{ request_id: string }>(`/caller?verification_id=${decision.verificationId}`);
  assert.equal(asked.request_id, decision.requestId);
});

test("every kind of bad presentation is rejected for its reason", STAGED, async (t) => {
  for (const { kind, reason } of await get<{ kind: string; reason: string }[]>("/kinds")) {
    await t.test(kind, async () => {
      const { verdict } = await verifyOne(kind);
      assert(verdict.kind === "rejected", verdict.kind);
      assert.equal(verdict.reason, reason);
    });
  }
});

test("a presentation made by the holder's part of this package is accepted", STAGED, async () => {
  const { credential, holder_key: key } = await holder();
  const verify = async (disclose: readonly string[]) => {
    const { nonce, audience } = await hukou.client.challenge(hukou.matter);
    const presented = present(credential, key, { nonce, audience, disclose });
    return (await hukou.client.verify({ matter: hukou.matter, presentation: presented, nonce })).verdict;
  };
  const accepted = await verify(["name", "id_number", "hukou_region"]);
  assert(accepted.kind === "accepted");
  assert.deepEqual(Object.keys(accepted.attributes).sort(), ["hukou_region", "id_number", "name"]);
  const rejected = await verify(["name"]);
  assert(rejected.kind === "rejected" && rejected.reason === "REQUIRED_CLAIM_MISSING");
});

test("a question is answered without the attribute behind it", STAGED, async () => {
  const { credential, holder_key: key } = await holder();
  const challenge = await hukou.client.challenge("WF-ZM");
  const { verdict } = await hukou.client.verify({
    matter: "WF-ZM",
    presentation: present(credential, key, challenge),
    nonce: challenge.nonce,
    predicates: [{ householdIn: ["sh", "js"] }, { householdIn: ["ah"] }],
  });
  assert(verdict.kind === "accepted", inspect(verdict));
  assert.deepEqual(verdict.predicateAnswers, [true, false]);
});

test("a consent lets a matter go on until it is withdrawn", STAGED, async () => {
  const { credential, holder_key: key } = await holder();
  const { consentId, expiresAt } = await hukou.client.recordConsent("XS-RH", ["name", "id_number"], 86_400_500);
  assert(expiresAt && expiresAt > new Date());
  const verify = async () => {
    const challenge = await hukou.client.challenge("XS-RH");
    const presented = present(credential, key, challenge);
    return hukou.client.verify({ matter: "XS-RH", presentation: presented, nonce: challenge.nonce, consentId });
  };
  assert.equal((await verify()).verdict.kind, "accepted");
  assert(await hukou.client.withdrawConsent(consentId));
  const { verdict, nextStep } = await verify();
  assert(verdict.kind === "rejected" && verdict.reason === "CONSENT_WITHDRAWN");
  assert.equal(nextStep, "OBTAIN_CONSENT");
});

test("a decision is explained, and proven", STAGED, async () => {
  const { verificationId } = await verifyOne("replayed", { wantReceipt: true });
  const explanation = await hukou.client.explain(verificationId);
  assert.deepEqual(
    [explanation.verdict, explanation.reason, explanation.matter],
    ["rejected", "REPLAYED", hukou.matter],
  );
  const decisive = explanation.steps.filter(({ outcome }) => outcome === "failed");
  assert(decisive.length === 1 && decisive[0]?.reason === "REPLAYED" && decisive[0].meaning?.zh);
  const bundle = JSON.parse(Buffer.from(await hukou.client.evidence(verificationId)).toString());
  assert(bundle.receipt);
});

test("a question that cannot be asked is an error that says what to mend", STAGED, async () => {
  const secret = "SECRET-PRESENTATION";
  const cases: readonly (readonly [() => Promise<unknown>, typeof RecognitionError, string | undefined])[] = [
    [() => hukou.client.verify({ matter: court.matter, presentation: secret }), NotPermitted, undefined],
    [() => hukou.client.challenge("NO-SUCH"), NotPermitted, undefined],
    [() => hukou.client.verify({ matter: hukou.matter } as never), InvalidRequest, "presentation"],
    [
      () => hukou.client.verify({ matter: hukou.matter, presentation: secret, nonce: "SECRET", requestId: "not ok" }),
      InvalidRequest,
      "request_id",
    ],
    [() => hukou.client.withdrawConsent("SECRET-CONSENT"), InvalidRequest, "consent_id"],
    [() => hukou.client.withdrawConsent("A".repeat(22)), Refused, undefined],
  ] as never;
  for (const [ask, kind, field] of cases) {
    await assert.rejects(ask(), (error: RecognitionError) => {
      assert(error instanceof kind, error.stack);
      assert.equal(error.field, field);
      assert.doesNotMatch(inspect(error), /SECRET/);
      return true;
    });
  }
});

test("the same question with the same request id gets the same decision", STAGED, async () => {
  const challenge = await hukou.client.challenge(hukou.matter);
  const request = {
    matter: hukou.matter,
    presentation: await presentation(challenge),
    nonce: challenge.nonce,
    requestId: `repeated-${challenge.nonce.slice(-20)}`,
  };
  const first = await hukou.client.verify(request);
  const second = await hukou.client.verify(request);
  assert.equal(first.verdict.kind, "accepted");
  assert.equal(second.verificationId, first.verificationId);
  assert.deepEqual([first.repeated, second.repeated], [false, true]);
  assert.equal(second.verdict.kind, "accepted");
  assert.equal((await get<string[]>(`/entries?request_id=${request.requestId}`)).length, 1);
});

test("a batch of a thousand is accepted", STAGED, async () => {
  const requests = (await assertions(court, 1_000)).map((each) => ({ matter: court.matter, presentation: each }));
  const results = await court.client.verifyAll([...requests, { matter: court.matter, presentation: "unreadable" }]);
  assert.equal(results.length, 1_001);
  assert.equal(results.filter(isAccepted).length, 1_000);
  const last = results[1_000];
  assert(last?.kind === "decision" && last.verdict.kind === "rejected" && last.verdict.reason === "MALFORMED");
});

test("a stream of thousands is answered at the pace of whoever takes the results", STAGED, async () => {
  const presentations = await assertions(court, STREAMED);
  let read = 0;
  let most = 0;
  const answered = new Set<number>();
  function* requests(): Generator<VerifyRequest> {
    for (const each of presentations) {
      read++;
      most = Math.max(most, read - answered.size);
      yield { matter: court.matter, presentation: each };
    }
  }
  for await (const { index, outcome } of court.client.stream(requests())) {
    assert(isAccepted(outcome), inspect(outcome));
    assert(!answered.has(index), "answered twice");
    answered.add(index);
    if (answered.size % 500 === 0) {
      await sleep(20); // slower than the gateway for a while
    }
  }
  assert.equal(answered.size, STREAMED);
  assert(most <= 256, `${most} were under way`);
});

test("overload is waited out, and told where that is too long", STAGED, async () => {
  const small = await service("small");
  try {
    const began = performance.now();
    const asked = Array.from({ length: 5 }, () => small.client.challenge(small.matter));
    const outcomes = await Promise.allSettled(asked);
    assert(outcomes.some((each) => each.status === "fulfilled"));
    for (const each of outcomes) {
      assert(each.status === "fulfilled" || each.reason instanceof Overloaded, inspect(each));
    }
    assert(performance.now() - began > 300, "nobody waited");
    const impatient = Array.from({ length: 20 }, () => small.client.challenge(small.matter, { deadlineMs: 250 }));
    const refused = (await Promise.allSettled(impatient)).flatMap((each) =>
      each.status === "rejected" ? [each.reason] : [],
    );
    assert(refused.length > 0);
    assert(refused.some((error) => error instanceof Overloaded && (error.retryAfterMs ?? 0) > 0));
  } finally {
    small.client.close();
  }
});

test("a certificate that is replaced is used from the next call on", STAGED, async () => {
  const before = await verifyOne("unreadable");
  const { sha256 } = await post<{ sha256: string }>("/certificate", { profile: "hukou" });
  const usedFor = async ({ verificationId }: Decision) =>
    (await get<{ certificate_sha256: string }>(`/caller?verification_id=${verificationId}`)).certificate_sha256;
  assert.notEqual(await usedFor(before), sha256);
  await until(async () => (await usedFor(await verifyOne("unreadable"))) === sha256);
  assert.equal((await verifyOne()).verdict.kind, "accepted");
});

test("a gateway that hangs costs no more than the deadline", STAGED, async () => {
  await post("/pause");
  try {
    const began = performance.now();
    await assert.rejects(hukou.client.challenge(hukou.matter, { deadlineMs: 500 }), DeadlineExceeded);
    assert(performance.now() - began < 5_000);
  } finally {
    await post("/resume");
  }
  await until(async () => (await verifyOne()).verdict.kind === "accepted");
});

test(
  "what is asked while a gateway is killed and started again is accepted once, or not answered",
  STAGED,
  async () => {
    const presentations = await assertions(court, 200);
    const results: (Outcome | RecognitionError)[] = [];
    let killed: Promise<unknown> | undefined;
    try {
      for (const [index, each] of presentations.entries()) {
        const asked = court.client.verify({ matter: court.matter, presentation: each });
        if (index === 20) {
          killed = post("/kill").then(() => post("/start"));
        }
        results.push(await asked.catch((error: RecognitionError) => error));
      }
    } finally {
      await (killed ?? post("/start"));
    }
    for (const each of results) {
      assert(each instanceof Unavailable || (!(each instanceof Error) && isAccepted(each)), inspect(each));
    }
    await until(async () => (await verifyOne()).verdict.kind === "accepted");
    const more = await assertions(court, 1);
    assert.equal(
      (await court.client.verify({ matter: court.matter, presentation: more[0] ?? "" })).verdict.kind,
      "accepted",
    );
  },
);

test("a stream goes on after a gateway is killed and started again", STAGED, async () => {
  const presentations = await assertions(court, 2_000);
  const answered = new Map<number, Outcome>();
  let killed: Promise<unknown> | undefined;
  try {
    const requests = presentations.map((each) => ({ matter: court.matter, presentation: each }));
    for await (const { index, outcome } of court.client.stream(requests)) {
      assert(!answered.has(index));
      answered.set(index, outcome);
      if (answered.size === 300) {
        killed = post("/kill").then(() => post("/start"));
      }
    }
  } finally {
    await (killed ?? post("/start"));
  }
  assert.equal(answered.size, 2_000);
  for (const result of answered.values()) {
    // Decided and recorded before the answer could be sent, and asked for again more than a minute later.
    const isRepeated =
      result.kind === "decision" && result.verdict.kind === "rejected" && result.verdict.reason === "REPLAYED";
    assert(isAccepted(result) || isRepeated, inspect(result));
  }
});

test("what cannot be decided is neither accepted nor rejected", STAGED, async () => {
  await post("/indeterminate", { on: true });
  try {
    const { verdict, nextStep } = await verifyOne();
    assert(verdict.kind === "indeterminate", verdict.kind);
    assert.equal(verdict.reason, "STATUS_UNAVAILABLE");
    assert.equal(nextStep, "RETRY_LATER");
  } finally {
    await post("/indeterminate", { on: false });
  }
  await until(async () => (await verifyOne()).verdict.kind === "accepted");
});

function isAccepted(result: Outcome): boolean {
  return result.kind === "decision" && result.verdict.kind === "accepted";
}

/** Asks until it is so; half a minute at most. An error is no answer. */
async function until(isSo: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 30_000;
  for (;;) {
    let last: unknown = "it was not so in time";
    try {
      if (await isSo()) {
        return;
      }
    } catch (error) {
      if (!(error instanceof RecognitionError)) {
        throw error;
      }
      last = error;
    }
    assert(performance.now() < end, inspect(last));
    await sleep(50);
  }
}
