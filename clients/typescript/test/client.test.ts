/** The client against a gateway in this process: what a real one does rarely, or does not do yet. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { after, afterEach, test } from "node:test";
import { inspect, promisify } from "node:util";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import { Metadata, status } from "@grpc/grpc-js";
import {
  DamagedAnswer,
  DeadlineExceeded,
  type Decision,
  Internal,
  InvalidRequest,
  NotPermitted,
  type Outcome,
  Overloaded,
  type Predicate,
  Profile,
  RecognitionClient,
  type RecognitionError,
  Refused,
  type Streamed,
  Unavailable,
  type VerifyRequest,
} from "recognition-client";
import { errorDetails, rpcStatus, verification } from "recognition-client/stubs";
import { issue, makeCa } from "./certificates.js";
import { type Answer, acceptance, type Behaviour, decided, decision, Gateway, type StreamCall } from "./gateway.js";

const { BadRequest, ErrorInfo, RetryInfo } = errorDetails;
const { Status } = rpcStatus;
const SECRETS = /SECRET|310101190001010011/;
const REQUEST: VerifyRequest = { matter: "HK-QY", presentation: "SECRET-PRESENTATION", nonce: "SECRET-NONCE" };
const warnings: Error[] = [];
process.on("warning", (warning) => warnings.push(warning));

let gateway: Gateway;
let client: RecognitionClient;

async function start(behaviour: Behaviour, certified?: string): Promise<void> {
  gateway = await Gateway.start(behaviour, certified);
  client = new RecognitionClient(gateway.profile);
}

afterEach(() => {
  client?.close();
  gateway?.stop();
});

after(() => assert.deepEqual(warnings, []));

// -- verdicts ---------------------------------------------------------------------------------------------------------

test("an acceptance is read by name and shown by nothing", async () => {
  await start({
    verify: () =>
      decision(
        acceptance({
          subjectType: verification.SubjectType.NATURAL,
          predicateAnswers: [verification.PredicateAnswer.YES, verification.PredicateAnswer.NO],
          credentialAge: { seconds: 1, nanos: 500_000_000 },
          actor: verification.Actor.fromPartial({ subject: "SECRET-ACTOR", relationship: "guardian" }),
        }),
      ),
  });
  const predicates = [{ ageAtLeast: 18 }, { claimMatches: { claim: "name", value: "SECRET" } }];
  const { verdict, ...rest } = await client.verify({ ...REQUEST, predicates });
  assert(verdict.kind === "accepted");
  assert.equal(verdict.subject, "v1.SECRET-PSEUDONYM");
  assert.deepEqual(verdict.attributes, { name: "SECRET-NAME", id_number: "310101190001010011" });
  assert.equal(verdict.actor?.subject, "SECRET-ACTOR");
  assert.deepEqual(verdict.predicateAnswers, [true, false]);
  assert.equal(verdict.subjectType, "natural");
  assert.equal(verdict.credentialAgeMs, 1_500);
  assert.equal(rest.nextStep, "PROCEED");
  assert.match(rest.requestId, /^[A-Za-z0-9_][A-Za-z0-9_-]{21}$/);
  const hidden = { depth: 9, showHidden: true };
  for (const shown of [inspect(verdict, hidden), inspect(verdict, { ...hidden, customInspect: false })]) {
    assert.doesNotMatch(shown, SECRETS);
  }
  for (const shown of [inspect(verdict, { depth: 9 }), JSON.stringify({ verdict, rest }), inspect({ ...verdict })]) {
    assert.doesNotMatch(shown, SECRETS);
  }
});

test("a challenge does not show its nonce to a log", async () => {
  const answer = { nonce: "SECRET", audience: "https://service.example", expireTime: new Date() };
  await start({ challenge: () => verification.CreateChallengeResponse.encode(answer).finish() });
  const challenge = await client.challenge("HK-QY");
  assert.equal(challenge.nonce, "SECRET");
  for (const shown of [
    inspect(challenge),
    inspect(challenge, { showHidden: true }),
    JSON.stringify(challenge),
    inspect({ ...challenge }),
  ]) {
    assert.match(shown, /service\.example/);
    assert.doesNotMatch(shown, SECRETS);
  }
});

test("a consent does not show its id to a log, and is none without", async () => {
  let consentId = "SECRET-CONSENT";
  const answer = () => verification.RecordConsentResponse.encode({ consentId, expireTime: new Date() }).finish();
  await start({ consent: answer });
  const consent = await client.recordConsent("XS-RH", ["name"], 86_400_000);
  assert.equal(consent.consentId, "SECRET-CONSENT");
  for (const options of [{}, { showHidden: true }, { customInspect: false }]) {
    assert.doesNotMatch(inspect({ consent }, options), SECRETS);
  }
  assert.equal(JSON.parse(JSON.stringify(consent)).consentId, "SECRET-CONSENT");
  consentId = "";
  const error = await failed(client.recordConsent("XS-RH", ["name"], 86_400_000));
  assert(error instanceof DamagedAnswer && error.code === status.DATA_LOSS && error.reason === "DAMAGED_ANSWER");
});

test("an acceptance that was given before says so", async () => {
  for (const repeated of [false, true]) {
    const answer = { ...decided(acceptance()), repeated };
    await start({ verify: () => verification.VerifyCredentialResponse.encode(answer).finish() });
    assert.equal((await client.verify(REQUEST)).repeated, repeated);
    client.close();
    gateway.stop();
  }
});

test("a reason that is not known yet is a rejection all the same", async () => {
  await start({ verify: () => decision({ $case: "rejected", value: { reason: 999 as never } }) });
  const { verdict } = await client.verify(REQUEST);
  assert.deepEqual(verdict, { kind: "rejected", reason: "UNRECOGNISED", reasonNumber: 999 });
});

test("a next step that is not known yet is to call support", async () => {
  const later = { ...decided({ $case: "indeterminate", value: { reason: 60, retryAfter: undefined } }), nextStep: 99 };
  await start({ verify: () => verification.VerifyCredentialResponse.encode(later as never).finish() });
  const { nextStep, verdict } = await client.verify(REQUEST);
  assert.equal(nextStep, "CALL_SUPPORT");
  assert.deepEqual(verdict, {
    kind: "indeterminate",
    reason: "TRUST_STALE",
    reasonNumber: 60,
    retryAfterMs: undefined,
  });
});

/** Field 99 of a later version of the contract. */
const NEW_FIELD = new BinaryWriter()
  .uint32((99 << 3) | 2)
  .string("new")
  .finish();

test("new fields are passed over", async () => {
  await start({ verify: () => Buffer.concat([decision({ $case: "rejected", value: { reason: 21 } }), NEW_FIELD]) });
  assert.deepEqual((await client.verify(REQUEST)).verdict, { kind: "rejected", reason: "EXPIRED", reasonNumber: 21 });
});

const LEVELS: verification.Assurance = { identity: 1, authenticator: 1, federation: 1, acr: "", level: 0 };

/** An acceptance that has one answer, as the tests of damaged answers ask one question. */
function accepting(verdict: verification.VerifyCredentialResponse["verdict"]): Uint8Array {
  assert(verdict?.$case === "accepted");
  return decision({ ...verdict, value: { ...verdict.value, predicateAnswers: [verification.PredicateAnswer.YES] } });
}

/** A rejection whose verify_time is such a number of seconds. */
function withTime(seconds: number | string): Uint8Array {
  const time = new BinaryWriter().uint32(8).int64(seconds).finish();
  const field = new BinaryWriter()
    .uint32((5 << 3) | 2)
    .bytes(time)
    .finish();
  return Buffer.concat([decision({ $case: "rejected", value: { reason: 21 } }), field]);
}

test("an acceptance with all that one must have is one", async () => {
  await start({ verify: () => accepting(acceptance({ assurance: LEVELS })) });
  const { verdict } = await client.verify({ ...REQUEST, predicates: [{ householdIn: ["ah"] }] });
  assert(verdict.kind === "accepted");
  assert.deepEqual([verdict.assurance, verdict.eraseAt], [LEVELS, new Date("2026-04-01T08:00:00Z")]);
});

test("challenges, consents and withdrawals that are not whole are none", async () => {
  const { CreateChallengeResponse, RecordConsentResponse, WithdrawConsentResponse } = verification;
  const expireTime = new Date();
  const never = new Date(Date.UTC(10_000, 0));
  let given: Uint8Array = Buffer.alloc(0);
  const answer = () => given;
  await start({ challenge: answer, consent: answer, withdrawal: answer });
  const damaged = async (asked: () => Promise<unknown>, encoded: Uint8Array) => {
    given = encoded;
    assert((await failed(asked())) instanceof DamagedAnswer);
  };
  const challenge = { nonce: "n", audience: "a", expireTime };
  for (const lost of [{ nonce: "" }, { audience: "" }, { expireTime: undefined }, { expireTime: never }]) {
    const encoded = CreateChallengeResponse.encode({ ...challenge, ...lost }).finish();
    await damaged(() => client.challenge("HK-QY"), encoded);
  }
  for (const lost of [{ consentId: "" }, { expireTime: undefined }, { expireTime: never }]) {
    const encoded = RecordConsentResponse.encode({ consentId: "C", expireTime, ...lost }).finish();
    await damaged(() => client.recordConsent("XS-RH", ["name"], 1_000), encoded);
  }
  for (const withdrawTime of [undefined, never]) {
    await damaged(() => client.withdrawConsent("C"), WithdrawConsentResponse.encode({ withdrawTime }).finish());
  }
  given = WithdrawConsentResponse.encode({ withdrawTime: expireTime }).finish();
  assert.deepEqual(await client.withdrawConsent("C"), expireTime);
});

const DAMAGED: { readonly [what: string]: Uint8Array } = {
  "no verdict": decision(undefined),
  "a verdict of a kind that is not known": Buffer.concat([decision(undefined), NEW_FIELD]),
  "a predicate without an answer": decision(acceptance({ predicateAnswers: [0] })),
  "a predicate with an answer that is not known": decision(acceptance({ predicateAnswers: [3 as never] })),
  "fewer answers than predicates": decision(acceptance()),
  "more answers than predicates": decision(acceptance({ predicateAnswers: [1, 1] })),
  "no id": verification.VerifyCredentialResponse.encode({ ...decided(acceptance()), verificationId: "" }).finish(),
  "a time out of range": withTime(253_402_300_800),
  "a time that no number holds": withTime("9223372036854775807"),
  "a time that no clock has": withTime(9_007_199_254_740_991),
  "an acceptance of nothing": accepting({ $case: "accepted", value: verification.Acceptance.fromPartial({}) }),
  "an acceptance without subject": accepting(acceptance({ subject: "" })),
  "an acceptance without issuer": accepting(acceptance({ issuer: "" })),
  "an acceptance without credential type": accepting(acceptance({ credentialType: "" })),
  "an acceptance without assurance": accepting(acceptance({ assurance: undefined })),
  "an acceptance with an assurance of nothing": accepting(acceptance({ assurance: { ...LEVELS, identity: 0 } })),
  "an acceptance with an assurance below nothing": accepting(acceptance({ assurance: { ...LEVELS, level: -1 } })),
  "an acceptance without time of erasure": accepting(acceptance({ eraseTime: undefined })),
  "an acceptance of somebody represented by nobody": accepting(
    acceptance({ actor: verification.Actor.fromPartial({ relationship: "guardian" }) }),
  ),
  "an acceptance with an expiry out of range": accepting(acceptance({ expireTime: new Date(Date.UTC(10_000, 0)) })),
  "bytes that are no message": Buffer.from("0a05", "hex"),
};

for (const [what, answer] of Object.entries(DAMAGED)) {
  test(`an answer with ${what} is no answer`, async () => {
    await start({ verify: () => answer });
    const asked = client.verify({ ...REQUEST, predicates: [{ householdIn: ["ah"] }], requestId: "R-1" });
    await assert.rejects(asked, (error) => error instanceof DamagedAnswer && error.requestId === "R-1");
  });
}

// -- errors -----------------------------------------------------------------------------------------------------------

function any(name: string, value: Uint8Array) {
  return { typeUrl: `type.googleapis.com/google.rpc.${name}`, value: Buffer.from(value) };
}

function failure(code: status, reason: string, details: { field?: string; retryAfterMs?: number } = {}): Answer {
  const packed = [any("ErrorInfo", ErrorInfo.encode({ reason, domain: "recognition.v1", metadata: {} }).finish())];
  if (details.field !== undefined) {
    const violation = { field: details.field, description: "must be something else" };
    packed.push(
      any("BadRequest", BadRequest.encode(BadRequest.fromPartial({ fieldViolations: [violation] })).finish()),
    );
  }
  if (details.retryAfterMs !== undefined) {
    const retryDelay = { seconds: 0, nanos: details.retryAfterMs * 1_000_000 };
    packed.push(any("RetryInfo", RetryInfo.encode({ retryDelay }).finish()));
  }
  const metadata = new Metadata();
  const message = "as the gateway says";
  metadata.set("grpc-status-details-bin", Buffer.from(Status.encode({ code, message, details: packed }).finish()));
  return { code, details: message, metadata };
}

async function failed(asked: Promise<unknown>): Promise<RecognitionError> {
  return asked.then(
    () => assert.fail("there was an answer"),
    (error: RecognitionError) => error,
  );
}

const ERRORS = [
  [status.INVALID_ARGUMENT, "INVALID_REQUEST", InvalidRequest],
  [status.PERMISSION_DENIED, "NOT_PERMITTED", NotPermitted],
  [status.NOT_FOUND, "NOT_HELD", Refused],
  [status.ABORTED, "CONFLICT", Refused],
  [status.FAILED_PRECONDITION, "WRONG_STATE", Refused],
  [status.RESOURCE_EXHAUSTED, "OVERLOADED", Overloaded],
  [status.UNAVAILABLE, "UNAVAILABLE", Unavailable],
  [status.INTERNAL, "INTERNAL", Internal],
  [status.UNKNOWN, "", Internal],
  [status.UNIMPLEMENTED, "", Internal],
  [status.DATA_LOSS, "", Internal],
] as const;

for (const [code, reason, kind] of ERRORS) {
  test(`${status[code]} is ${kind.name}`, async () => {
    await start({ verify: () => failure(code, reason, { field: "nonce" }) });
    const error = await failed(client.verify({ ...REQUEST, requestId: "R-1" }));
    assert(error instanceof kind && error.name === kind.name, error.stack);
    assert.deepEqual([error.code, error.reason, error.field, error.requestId], [code, reason, "nonce", "R-1"]);
    assert.match(error.message, /R-1/);
    for (const shown of [String(error), error.stack ?? "", inspect(error), JSON.stringify(error)]) {
      assert.doesNotMatch(shown, SECRETS);
    }
  });
}

test("details that cannot be read leave the code", async () => {
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from("ffff", "hex"));
  await start({ verify: () => ({ code: status.PERMISSION_DENIED, metadata }) });
  const error = await failed(client.verify(REQUEST));
  assert(error instanceof NotPermitted && error.reason === "");
});

test("details that are damaged leave the code, in calls and in streams", async () => {
  const info = ErrorInfo.encode({ reason: "NOT_PERMITTED", domain: "recognition.v1", metadata: {} }).finish();
  const damaged = Buffer.from("0aff", "hex");
  for (const name of ["ErrorInfo", "BadRequest", "RetryInfo"]) {
    const details = [any("ErrorInfo", info), any(name, damaged)];
    const metadata = new Metadata();
    const packed = Status.encode({ code: status.PERMISSION_DENIED, message: "", details }).finish();
    metadata.set("grpc-status-details-bin", Buffer.from(packed));
    const given = { code: status.PERMISSION_DENIED, details: "no", metadata };
    await start({ verify: () => given, stream: (call) => call.emit("error", given) });
    const error = await failed(client.verify(REQUEST));
    assert(error instanceof NotPermitted && error.reason === "");
    const [streamed] = await collectAll(client.stream([REQUEST]));
    assert(streamed?.outcome.kind === "failure" && streamed.outcome.error instanceof NotPermitted);
    client.close();
    gateway.stop();
  }
});

test("an answer that cannot be read ends a stream, and gives its connection back", async () => {
  let isCancelled = () => {};
  const cancelled = new Promise<void>((resolve) => {
    isCancelled = resolve;
  });
  await start({
    stream: (call) => {
      call.on("cancelled", isCancelled);
      onItems(call, () => call.write(Buffer.from("0aff", "hex")));
    },
  });
  await givenUp(DamagedAnswer as never, 30_000);
  await cancelled;
});

test("an error is one line: advice, what was said and why, the request", async () => {
  const metadata = (failure(status.PERMISSION_DENIED, "NOT_PERMITTED") as { metadata: Metadata }).metadata;
  const details = `not\nregistered\u0007 \u202e${"x".repeat(1_000)}`;
  await start({ verify: () => ({ code: status.PERMISSION_DENIED, details, metadata }) });
  const { message } = await failed(client.verify({ ...REQUEST, requestId: "R-1" }));
  assert.match(
    message,
    /^This service may not ask that: [^[\]]*\. \[not registered x{385}…: NOT_PERMITTED\] Request R-1\.$/,
  );
});

const NO_REQUESTS: readonly (readonly [field: string, request: unknown])[] = [
  ["request", undefined],
  ["request", "a presentation"],
  ["matter", { presentation: "x" }],
  ["matter", { ...REQUEST, matter: "" }],
  ["presentation", { matter: "HK-QY" }],
  ["presentation", { ...REQUEST, presentation: "" }],
  ["presentation", { ...REQUEST, presentation: null }],
  ["presentation", { ...REQUEST, presentation: Buffer.from("x") }],
  ["presentation", { ...REQUEST, presentation: "SECRET\ud800" }],
  ["presentation", { ...REQUEST, presentation: "x".repeat(5_000_000) }],
  ["nonce", { ...REQUEST, nonce: 310101190001010011n }],
  ["request_id", { ...REQUEST, requestId: 7 }],
  ["consent_id", { ...REQUEST, consentId: {} }],
  ["terminal", { ...REQUEST, terminal: ["SECRET"] }],
  ["want_receipt", { ...REQUEST, wantReceipt: "no" }],
  ["predicates", { ...REQUEST, predicates: { ageAtLeast: 18 } }],
  ["predicates[0]", { ...REQUEST, predicates: [{ ageAtleast: 18 }] }],
  ["predicates[0]", { ...REQUEST, predicates: [null] }],
  ["predicates[0]", { ...REQUEST, predicates: [{}] }],
  ["predicates[1]", { ...REQUEST, predicates: [{ ageAtLeast: 18 }, { ageAtLeast: 18, householdIn: ["ah"] }] }],
  ["predicates[0]", { ...REQUEST, predicates: [{ ageAtLeast: 18, claimMatches: { claim: "name", value: "SECRET" } }] }],
  ["predicates[0]", { ...REQUEST, predicates: [{ ageAtLeast: 18, ageAtMost: 65 }] }],
  ["predicates[0].age_at_least", { ...REQUEST, predicates: [{ ageAtLeast: 17.5 }] }],
  ["predicates[0].age_at_least", { ...REQUEST, predicates: [{ ageAtLeast: 2 ** 31 }] }],
  ["predicates[0].age_at_least", { ...REQUEST, predicates: [{ ageAtLeast: "18" }] }],
  ["predicates[0].household_in", { ...REQUEST, predicates: [{ householdIn: "ah" }] }],
  ["predicates[0].household_in[1]", { ...REQUEST, predicates: [{ householdIn: ["ah", 1] }] }],
  ["predicates[0].claim_matches", { ...REQUEST, predicates: [{ claimMatches: "SECRET" }] }],
  ["predicates[0].claim_matches.claim", { ...REQUEST, predicates: [{ claimMatches: { value: "SECRET" } }] }],
  ["predicates[0].claim_matches.value", { ...REQUEST, predicates: [{ claimMatches: { claim: "name" } }] }],
];

function isInvalid(error: unknown, field: string): boolean {
  assert(error instanceof InvalidRequest, inspect(error));
  assert.deepEqual([error.code, error.reason, error.field], [status.INVALID_ARGUMENT, "INVALID_REQUEST", field]);
  assert.doesNotMatch(inspect(error), SECRETS);
  return true;
}

test("what cannot be sent is not sent, and spoils nothing else", async () => {
  const seen: string[] = [];
  await start({
    verify: () => assert.fail("it was sent"),
    batch: ({ items }) => {
      seen.push(...items.map(({ requestId }) => requestId));
      const result = { $case: "response" as const, value: decided(acceptance()) };
      const results = items.map(() => ({ result }));
      return verification.BatchVerifyCredentialsResponse.encode({ results }).finish();
    },
    stream: (call) =>
      onItems(call, (items) => {
        seen.push(...items.map(({ request }) => request?.requestId ?? ""));
        answer(call, items);
      }),
  });
  const requests = [{ ...REQUEST, requestId: "first" }] as VerifyRequest[];
  for (const [field, request] of NO_REQUESTS) {
    requests.push(request as VerifyRequest);
    const error = await failed(client.verify(request as VerifyRequest));
    assert(isInvalid(error, field) && error.requestId);
  }
  requests.push({ ...REQUEST, requestId: "last" });
  const streamed: Outcome[] = [];
  for await (const { index, outcome } of client.stream(requests)) {
    streamed[index] = outcome;
  }
  for (const outcomes of [await client.verifyAll(requests), streamed]) {
    assert.equal(outcomes.length, requests.length);
    assert.deepEqual([outcomes.at(0)?.kind, outcomes.at(-1)?.kind], ["decision", "decision"]);
    for (const [i, [field]] of NO_REQUESTS.entries()) {
      const outcome = outcomes[i + 1];
      assert(outcome?.kind === "failure" && isInvalid(outcome.error, field));
      assert(outcome.requestId && outcome.error.requestId === outcome.requestId);
    }
  }
  assert.deepEqual(seen, ["first", "last", "first", "last"]);
});

test("two questions in one predicate do not compile", () => {
  const one: Predicate[] = [
    { ageAtLeast: 18 },
    { householdIn: ["ah"] },
    { claimMatches: { claim: "name", value: "" } },
  ];
  // @ts-expect-error
  one.push({ ageAtLeast: 18, claimMatches: { claim: "name", value: "" } });
  // @ts-expect-error
  one.push({ ageAtLeast: 18, householdIn: ["ah"] });
  // @ts-expect-error
  one.push({ householdIn: ["ah"], claimMatches: { claim: "name", value: "" } });
  assert.equal(one.length, 6);
});

test("a request of 256 KiB is sent, and one byte more is not", async () => {
  await start({ verify: () => decision(acceptance()) });
  const request = { ...REQUEST, requestId: "R-1" };
  const { length } = verification.VerifyCredentialRequest.encode(
    verification.VerifyCredentialRequest.fromPartial({ ...request, presentation: "x".repeat(200_000) } as never),
  ).finish();
  const most = 256 * 1024 - length + 200_000;
  assert.equal((await client.verify({ ...request, presentation: "x".repeat(most) })).verdict.kind, "accepted");
  isInvalid(await failed(client.verify({ ...request, presentation: "x".repeat(most + 1) })), "presentation");
});

test("what else cannot be sent is not sent either", async () => {
  const answered = () => assert.fail("it was sent");
  await start({ challenge: answered, consent: answered });
  const cases: readonly (readonly [string, () => Promise<unknown>])[] = [
    ["matter", () => client.challenge(undefined as never)],
    ["matter", () => client.recordConsent("", ["name"], 1_000)],
    ["claims", () => client.recordConsent("XS-RH", "name" as never, 1_000)],
    ["claims[0]", () => client.recordConsent("XS-RH", [""], 1_000)],
    ["lifetime", () => client.recordConsent("XS-RH", ["name"], Number.NaN)],
    ["lifetime", () => client.recordConsent("XS-RH", ["name"], 1e18)],
    ["consent_id", () => client.withdrawConsent(undefined as never)],
    ["verification_id", () => client.explain(7 as never)],
    ["verification_id", () => client.evidence("")],
    ["deadlineMs", () => client.challenge("HK-QY", { deadlineMs: 0 })],
    ["deadlineMs", () => client.verifyAll([REQUEST], { deadlineMs: Number.NaN })],
  ];
  for (const [field, ask] of cases) {
    isInvalid(await failed(ask()), field);
  }
  for (const options of [{ deadlineMs: 0 }, { deadlineMs: -1 }, { batchDeadlineMs: Number.POSITIVE_INFINITY }]) {
    assert.throws(() => new RecognitionClient(gateway.profile, options), InvalidRequest);
  }
});

// -- deadlines and repetition -----------------------------------------------------------------------------------------

test("a call that finds nobody is repeated word for word", async () => {
  const seen: unknown[] = [];
  await start({
    verify: (request) => {
      seen.push(request);
      return seen.length < 3 ? failure(status.UNAVAILABLE, "UNAVAILABLE") : decision(acceptance());
    },
  });
  assert.equal((await client.verify(REQUEST)).verdict.kind, "accepted");
  assert.equal(seen.length, 3);
  assert.deepEqual(seen[1], seen[0]);
  assert.deepEqual(seen[2], seen[0]);
});

test("a consent is not recorded twice", async () => {
  for (const [given, kind] of [
    [failure(status.UNAVAILABLE, "UNAVAILABLE"), Unavailable],
    [failure(status.RESOURCE_EXHAUSTED, "OVERLOADED", { retryAfterMs: 10 }), Overloaded],
  ] as const) {
    let calls = 0;
    await start({
      consent: () => {
        calls++;
        return given;
      },
    });
    assert((await failed(client.recordConsent("XS-RH", ["name"], 86_400_000))) instanceof kind);
    assert.equal(calls, 1);
    client.close();
    gateway.stop();
  }
});

test("the gateway is asked again when it says so, three times at most", async () => {
  const times: number[] = [];
  await start({
    verify: () => {
      times.push(performance.now());
      return failure(status.RESOURCE_EXHAUSTED, "CALLER_RATE_EXCEEDED", { retryAfterMs: 50 });
    },
  });
  const error = await failed(client.verify(REQUEST));
  assert(error instanceof Overloaded);
  assert.equal(error.retryAfterMs, 50);
  assert.equal(times.length, 3);
  assert((times[2] ?? 0) - (times[0] ?? 0) >= 98, "it did not wait");
});

test("where the gateway does not say how long to wait, it is a tenth of a second", async () => {
  for (const details of [{}, { retryAfterMs: 0 }, { retryAfterMs: -500 }]) {
    const times: number[] = [];
    await start({
      verify: () => {
        times.push(performance.now());
        return times.length > 1 ? decision(acceptance()) : failure(status.RESOURCE_EXHAUSTED, "OVERLOADED", details);
      },
    });
    assert.equal((await client.verify(REQUEST)).verdict.kind, "accepted");
    assert((times[1] ?? 0) - (times[0] ?? 0) >= 99, "it did not wait");
    client.close();
    gateway.stop();
  }
  await start({});
});

test("nobody waits beyond the deadline", async () => {
  await start({ verify: () => failure(status.RESOURCE_EXHAUSTED, "OVERLOADED", { retryAfterMs: 900 }) });
  const began = performance.now();
  assert((await failed(client.verify(REQUEST, { deadlineMs: 500 }))) instanceof Overloaded);
  assert(performance.now() - began < 500);
});

test("a call ends at its deadline", async () => {
  await start({ verify: () => new Promise<never>(() => {}) });
  const error = await failed(client.verify({ ...REQUEST, requestId: "R-1" }, { deadlineMs: 100 }));
  assert(error instanceof DeadlineExceeded && error.requestId === "R-1");
});

test("a signal ends a call, and a wait", async () => {
  const controller = new AbortController();
  let calls = 0;
  await start({
    verify: () => {
      calls++;
      setImmediate(() => controller.abort(new Error("the person left")));
      return failure(status.RESOURCE_EXHAUSTED, "OVERLOADED", { retryAfterMs: 900 });
    },
  });
  const began = performance.now();
  await assert.rejects(client.verify(REQUEST, { signal: controller.signal }), /the person left/);
  assert(performance.now() - began < 900);
  await assert.rejects(client.verify(REQUEST, { signal: controller.signal }), /the person left/);
  assert.equal(calls, 1);
});

// -- TLS --------------------------------------------------------------------------------------------------------------

async function unreachable(profile: Profile, cause: RegExp): Promise<void> {
  const lost = new RecognitionClient(profile);
  const error = await failed(lost.verify({ ...REQUEST, requestId: "R-1" }, { deadlineMs: 5_000 }));
  lost.close();
  assert(error instanceof Unavailable, error.stack);
  const [, address, said] =
    /^The gateway cannot be reached: ask again later; .* runs at (\S+), and that each side trusts the other's certificate\. \[([^\n]*)\] Request R-1\.$/.exec(
      error.message,
    ) ?? [];
  assert.equal(address, profile.address, error.message);
  assert.match(said ?? "", cause);
}

test("a gateway of another CA is not spoken to", async () => {
  await start({ verify: () => decision(acceptance()) });
  writeFileSync(gateway.profile.ca, makeCa("Another CA").certificate);
  await unreachable(gateway.profile, /^self-signed certificate in certificate chain$/);
});

test("a gateway that does not know the client's certificate does not speak to it", async () => {
  await start({ verify: () => decision(acceptance()) });
  const { certificate, privateKey } = issue(makeCa("Another CA"), "service", "service.example");
  writeFileSync(gateway.profile.certificate, certificate);
  writeFileSync(gateway.profile.privateKey, privateKey);
  await unreachable(gateway.profile, /certificate/);
});

test("a gateway that is certified under another name is not spoken to", async () => {
  await start({ verify: () => decision(acceptance()) }, "127.0.0.2");
  await unreachable(gateway.profile, /^Hostname\/IP does not match certificate's altnames/);
});

test("where there is no gateway, an error says where it was looked for", async () => {
  await start({});
  const plain = createServer((socket) => socket.resume().end("HTTP/1.1 400 Bad Request\r\n\r\n")).listen(
    0,
    "127.0.0.1",
  );
  await once(plain, "listening");
  const { port } = plain.address() as AddressInfo;
  await unreachable(new Profile({ ...gateway.profile, address: `127.0.0.1:${port}` }), /^wrong version number$/);
  plain.close();
  await once(plain, "close");
  await unreachable(new Profile({ ...gateway.profile, address: `127.0.0.1:${port}` }), /^connection refused$/);
});

test("no variable of the environment switches verification off", async () => {
  await start({ verify: () => decision(acceptance()) }, "127.0.0.2");
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
  try {
    assert((await failed(client.verify(REQUEST, { deadlineMs: 2_000 }))) instanceof Unavailable);
  } finally {
    delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
  }
  warnings.length = 0; // Node.js warns of the variable.
});

test("no variable of the environment sends a call past a proxy", async () => {
  await start({ verify: () => decision(acceptance()) });
  const names = ["grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"] as const;
  const before = names.map((name) => process.env[name]);
  let connections = 0;
  const proxy = createServer((socket) => {
    connections++;
    socket.destroy();
  }).listen(0, "127.0.0.1");
  await once(proxy, "listening");
  try {
    for (const name of names) {
      process.env[name] = name.startsWith("no") ? "" : `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    }
    const direct = new RecognitionClient(gateway.profile);
    assert.equal((await direct.verify(REQUEST, { deadlineMs: 2_000 })).verdict.kind, "accepted");
    direct.close();
  } finally {
    for (const [i, name] of names.entries()) {
      delete process.env[name];
      Object.assign(process.env, before[i] === undefined ? {} : { [name]: before[i] });
    }
    proxy.close();
  }
  assert.equal(connections, 0);
});

test("a gateway is known by its host name too", async () => {
  await start({ verify: () => decision(acceptance()) }, "localhost");
  const profile = new Profile({
    ...gateway.profile,
    address: gateway.profile.address.replace("127.0.0.1", "localhost"),
  });
  const named = new RecognitionClient(profile);
  assert.equal((await named.verify(REQUEST)).verdict.kind, "accepted");
  named.close();
});

test("a new certificate is used once its key is there, without harm to calls under way", async (t) => {
  let begun = () => {};
  let answer = () => {};
  const callers: string[] = [];
  await start({
    verify: async (request, caller) => {
      callers.push(caller.subject);
      if (request.requestId === "slow") {
        begun();
        await new Promise<void>((resolve) => {
          answer = resolve;
        });
      }
      return decision(acceptance());
    },
  });
  const later = (seconds: number) => {
    const now = performance.now.bind(performance);
    t.mock.method(performance, "now", () => now() + seconds * 1_000);
  };
  const isUnderWay = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const slow = client.verify({ ...REQUEST, requestId: "slow" });
  await isUnderWay;
  gateway.certify("renewed");
  writeFileSync(gateway.profile.privateKey, makeCa("half of a pair").privateKey);
  later(2);
  await client.verify(REQUEST);
  gateway.certify("renewed");
  await client.verify(REQUEST); // within the second
  later(4);
  await client.verify(REQUEST);
  answer();
  assert.equal((await slow).verdict.kind, "accepted");
  assert.deepEqual(callers, ["CN=service", "CN=service", "CN=service", "CN=renewed"]);
});

test("a client is not made from files that do not fit together", async () => {
  await start({});
  writeFileSync(gateway.profile.privateKey, makeCa("another").privateKey);
  assert.throws(() => new RecognitionClient(gateway.profile), /do not fit together/);
});

test("a forgotten await is told", async () => {
  await start({});
  assert.throws(() => new RecognitionClient(Promise.resolve(gateway.profile) as never), /await Profile\.read/);
});

test("a client that is closed says so", async () => {
  await start({ verify: () => decision(acceptance()) });
  client.close();
  const isClosed = (error: unknown) => error instanceof Unavailable && /this client was closed/.test(error.message);
  assert(isClosed(await failed(client.challenge("HK-QY"))));
  const error = await failed(client.verify({ ...REQUEST, requestId: "R-1" }));
  assert(isClosed(error) && error.requestId === "R-1");
  const [outcome] = await client.verifyAll([REQUEST]);
  assert(outcome?.kind === "failure" && isClosed(outcome.error));
  await assert.rejects(client.stream([REQUEST]).next(), isClosed);
});

test("closing ends calls and streams that are under way", async () => {
  let calls = 0;
  let begun = () => {};
  const bothBegun = new Promise<void>((resolve) => {
    begun = () => {
      if (++calls === 2) {
        resolve();
      }
    };
  });
  await start({
    verify: () => new Promise<never>(begun),
    stream: (call) => onItems(call, begun),
  });
  async function* endless() {
    yield* numbered(16);
    await new Promise(() => {});
  }
  const outcomes: Streamed[] = [];
  const ended = [failed(client.verify(REQUEST)), failed(collectAll(client.stream(endless()), outcomes))];
  await bothBegun;
  client.close();
  for (const error of await Promise.all(ended)) {
    assert(error instanceof Unavailable && /this client was closed/.test(error.message), error.stack);
  }
  assert.equal(outcomes.length, 16);
  assert(outcomes.every(({ outcome }) => outcome.kind === "failure" && outcome.error instanceof Unavailable));
});

test("closing ends a wait", async (t) => {
  await start({ verify: () => failure(status.RESOURCE_EXHAUSTED, "OVERLOADED", { retryAfterMs: 2_000 }) });
  t.mock.method(Math, "random", () => {
    setImmediate(() => client.close()); // The wait is being reckoned.
    return 0;
  });
  const began = performance.now();
  const error = await failed(client.verify(REQUEST));
  assert(error instanceof Unavailable && /this client was closed/.test(error.message), error.stack);
  assert(performance.now() - began < 1_900);
});

test("the generated stub is at hand", async () => {
  await start({ verify: (request) => (request.requestId === "" ? decision(acceptance()) : failure(13, "INTERNAL")) });
  const stub = client.stub();
  const answer = await promisify<verification.VerifyCredentialRequest, verification.VerifyCredentialResponse>(
    stub.verifyCredential.bind(stub),
  )(verification.VerifyCredentialRequest.fromPartial(REQUEST as never));
  assert.equal(answer.verdict?.$case, "accepted");
});

// -- batches ----------------------------------------------------------------------------------------------------------

test("batches are cut by number and by size, repeated, and answered in order", async () => {
  const sizes: number[] = [];
  await start({
    batch: ({ items }) => {
      sizes.push(items.length);
      if (sizes.at(-2) !== items.length) {
        return failure(status.UNAVAILABLE, "UNAVAILABLE"); // the first time
      }
      const results = items.map(({ requestId }) => ({
        result: { $case: "response" as const, value: { ...decided(acceptance()), verificationId: `V-${requestId}` } },
      }));
      return verification.BatchVerifyCredentialsResponse.encode({ results }).finish();
    },
  });
  const large = "x".repeat(64 * 1024);
  const requests = Array.from({ length: 1_100 }, (_, index) => ({
    ...REQUEST,
    presentation: index < 1_010 ? "small" : large,
    requestId: `R-${index}`,
  }));
  const results = await client.verifyAll(requests);
  assert.deepEqual(
    results.map((each) => each.kind === "decision" && each.verificationId),
    requests.map(({ requestId }) => `V-${requestId}`),
  );
  assert.deepEqual(sizes, [1_000, 1_000, 73, 73, 27, 27]);
});

test("what fails in a batch is no verdict", async () => {
  await start({
    batch: () => {
      const error = {
        code: 3,
        reason: "INVALID_REQUEST",
        description: "is empty",
        field: "nonce",
        retryDelay: undefined,
      };
      const results = [
        { result: { $case: "error" as const, value: error } },
        { result: undefined },
        { result: { $case: "response" as const, value: decided(undefined) } },
        { result: { $case: "response" as const, value: decided({ $case: "rejected", value: { reason: 21 } }) } },
        { result: { $case: "error" as const, value: { ...error, code: 0 } } },
        { result: { $case: "error" as const, value: { ...error, code: 99 } } },
      ];
      return verification.BatchVerifyCredentialsResponse.encode({ results }).finish();
    },
  });
  const results = await client.verifyAll(Array.from({ length: 6 }, () => REQUEST));
  const kinds = results.map((each) => (each.kind === "failure" ? each.error.name : each.verdict.kind));
  assert.deepEqual(kinds, ["InvalidRequest", "DamagedAnswer", "DamagedAnswer", "rejected", "Internal", "Internal"]);
  for (const result of await client.verifyAll([REQUEST])) {
    assert(result.kind === "failure" && result.error instanceof DamagedAnswer); // six results for one request
  }
});

test("where a batch fails, each of its requests has an error of its own", async () => {
  await start({ batch: () => failure(status.PERMISSION_DENIED, "NOT_PERMITTED") });
  const outcomes = await client.verifyAll([...numbered(3)]);
  for (const [i, outcome] of outcomes.entries()) {
    assert(outcome.kind === "failure" && outcome.error instanceof NotPermitted);
    assert.deepEqual([outcome.requestId, outcome.error.requestId], [`R-${i}`, `R-${i}`]);
    assert.match(outcome.error.message, new RegExp(`: NOT_PERMITTED\\] Request R-${i}\\.$`));
  }
  assert.equal(outcomes.length, 3);
});

// -- streams ----------------------------------------------------------------------------------------------------------

type StreamItem = verification.StreamItem;

function answerOf({ itemId, request }: StreamItem): verification.StreamResult {
  const value = { ...decided(acceptance()), verificationId: `V-${request?.requestId}` };
  return { itemId, result: { $case: "response", value } };
}

function answer(call: StreamCall, items: readonly StreamItem[]): void {
  call.write(verification.StreamVerifyCredentialsResponse.encode({ results: items.map(answerOf) }).finish());
}

function onItems(call: StreamCall, take: (items: readonly StreamItem[]) => void): void {
  call.on("data", ({ items }: verification.StreamVerifyCredentialsRequest) => take(items));
  call.on("end", () => call.end());
}

function* numbered(count: number): Generator<VerifyRequest> {
  for (let index = 0; index < count; index++) {
    yield { ...REQUEST, requestId: `R-${index}` };
  }
}

async function collect(stream: AsyncIterable<Streamed>): Promise<Map<number, Decision>> {
  const found = new Map<number, Decision>();
  for await (const { index, outcome } of stream) {
    assert(outcome.kind === "decision" && !found.has(index));
    assert.equal(outcome.verificationId, `V-R-${index}`);
    found.set(index, outcome);
  }
  return found;
}

test("a stream that ends is gone on with, and nothing is answered twice", async () => {
  let streams = 0;
  await start({
    stream: (call) => {
      const mine = ++streams;
      let taken = 0;
      onItems(call, (items) => {
        taken += items.length;
        if (mine <= 3 && taken > 100) {
          answer(call, items.slice(0, 3));
          call.emit("error", { code: status.UNAVAILABLE, details: "the connection is old" });
        } else {
          answer(call, items);
        }
      });
    },
  });
  assert.equal((await collect(client.stream(numbered(1_000)))).size, 1_000);
  assert.equal(streams, 4);
});

test("whoever takes results slowly slows down the reading, and messages stay full", async () => {
  const sizes: number[] = [];
  await start({
    stream: (call) =>
      onItems(call, (items) => {
        sizes.push(items.length);
        answer(call, items);
      }),
  });
  let read = 0;
  let taken = 0;
  let most = 0;
  function* counted() {
    for (const each of numbered(2_000)) {
      read++;
      most = Math.max(most, read - taken);
      yield each;
    }
  }
  for await (const _ of client.stream(counted())) {
    taken++;
    if (taken % 100 === 0) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  assert.equal(taken, 2_000);
  assert(most <= 256, `${most} were under way`);
  assert(Math.max(...sizes) <= 100 && 2_000 / sizes.length > 8, `messages of ${2_000 / sizes.length}`);
});

test("a request does not wait for others to come", async () => {
  await start({ stream: (call) => onItems(call, (items) => answer(call, items)) });
  let next: (request: VerifyRequest) => void = () => {};
  async function* source() {
    for (let index = 0; index < 3; index++) {
      yield await new Promise<VerifyRequest>((resolve) => {
        next = resolve;
      });
    }
  }
  const results = client.stream(source());
  for (let index = 0; index < 3; index++) {
    const answered = results.next();
    await new Promise((resolve) => setImmediate(resolve));
    next({ ...REQUEST, requestId: `R-${index}` });
    assert.equal((await answered).value?.index, index);
  }
  assert((await results.next()).done);
});

test("what is too much for the moment is sent again later", async () => {
  const seen = new Map<string, number>();
  await start({
    stream: (call) =>
      onItems(call, (items) => {
        const results = items.map((item): verification.StreamResult => {
          const times = (seen.get(item.itemId) ?? 0) + 1;
          seen.set(item.itemId, times);
          const retryDelay = { seconds: 0, nanos: 20_000_000 };
          const value = { code: 8, reason: "CALLER_RATE_EXCEEDED", description: "", field: "", retryDelay };
          const isTooMuch = times < 2 || item.itemId === "7";
          return isTooMuch ? { itemId: item.itemId, result: { $case: "error", value } } : answerOf(item);
        });
        call.write(verification.StreamVerifyCredentialsResponse.encode({ results }).finish());
      }),
  });
  let failures = 0;
  for await (const { index, outcome } of client.stream(numbered(40), { deadlineMs: 500 })) {
    if (outcome.kind === "failure") {
      failures++;
      assert(index === 7 && outcome.error instanceof Overloaded && outcome.error.requestId === "R-7");
    }
  }
  assert.equal(failures, 1);
  assert.deepEqual([seen.size, seen.get("8")], [40, 2]);
  assert((seen.get("7") ?? 0) > 5, "it was given up early");
});

/** What became of each, and in which error the stream ended. */
async function collectAll(stream: AsyncIterable<Streamed>, into: Streamed[] = []): Promise<Streamed[]> {
  for await (const each of stream) {
    into.push(each);
  }
  return into;
}

/** The stream fails in an error of this class; so do those under way, each under its own id, and no others. */
async function givenUp(kind: typeof RecognitionError, deadlineMs: number): Promise<RecognitionError> {
  const short = await collectAll(client.stream(numbered(256), { deadlineMs }));
  assert.equal(short.length, 256);
  let read = 0;
  function* counted() {
    for (const each of numbered(10_000)) {
      read++;
      yield each;
    }
  }
  const long: Streamed[] = [];
  const error = await failed(collectAll(client.stream(counted(), { deadlineMs }), long));
  assert(error instanceof kind, error.stack);
  assert(read <= 257 && long.length === read, `${read} were read, and ${long.length} had an outcome`);
  for (const { index, outcome } of [...short, ...long]) {
    assert(outcome.kind === "failure" && outcome.error instanceof kind, inspect(outcome));
    assert.equal(outcome.error.requestId, `R-${index}`);
  }
  return error;
}

test("a stream that is refused ends in that error", async () => {
  await start({ stream: (call) => call.emit("error", failure(status.PERMISSION_DENIED, "NOT_PERMITTED")) });
  assert.equal((await givenUp(NotPermitted as never, 10_000)).reason, "NOT_PERMITTED");
});

test("a stream without answers ends", async () => {
  await start({ stream: (call) => onItems(call, () => {}) });
  await givenUp(DeadlineExceeded as never, 200);
  gateway.stop();
  assert.match((await givenUp(Unavailable as never, 500)).message, /\[connection refused\]/);
  gateway = await Gateway.start({});
});

test("a stream that never has room ends, also where that would take for ever", async () => {
  for (const retryAfterMs of [20, 2 ** 31]) {
    const retryDelay = { seconds: 0, nanos: 20_000_000 };
    const value = { code: 8, reason: "OVERLOADED", description: "", field: "", retryDelay };
    let refusals = 0;
    await start({
      stream: (call) =>
        onItems(call, (items) => {
          refusals++;
          const seconds = Math.floor(retryAfterMs / 1_000);
          const full = retryAfterMs > 20 ? { ...value, retryDelay: { seconds, nanos: 0 } } : value;
          const results = items.map(({ itemId }) => ({ itemId, result: { $case: "error" as const, value: full } }));
          call.write(verification.StreamVerifyCredentialsResponse.encode({ results }).finish());
        }),
    });
    await givenUp(Overloaded as never, 300);
    assert(retryAfterMs > 20 ? refusals <= 34 : refusals > 34, `${refusals} refusals`);
    client.close();
    gateway.stop();
  }
  await start({});
});

function refusalOf({ itemId }: StreamItem, seconds: number): verification.StreamResult {
  const retryDelay = { seconds, nanos: 20_000_000 };
  const value = { code: 8, reason: "OVERLOADED", description: "", field: "", retryDelay };
  return { itemId, result: { $case: "error", value } };
}

function send(call: StreamCall, results: verification.StreamResult[]): void {
  call.write(verification.StreamVerifyCredentialsResponse.encode({ results }).finish());
}

test("only an answer that was waited for is worth waiting on", async () => {
  let ticks = 0;
  await start({
    stream: (call) =>
      onItems(call, (items) => {
        const [first] = items;
        assert(first);
        const timer = setInterval(() => {
          ticks++;
          send(call, []);
          for (const itemId of ["", "-1", "00", "\uff10", "9".repeat(5_000), "__proto__"]) {
            send(call, [answerOf({ ...first, itemId })]);
          }
        }, 20);
        call.on("close", () => clearInterval(timer));
      }),
  });
  const began = performance.now();
  const outcomes = await collectAll(client.stream(numbered(16), { deadlineMs: 400 }));
  assert(performance.now() - began < 4_000 && ticks > 3);
  assert(outcomes.every(({ outcome }) => outcome.kind === "failure" && outcome.error instanceof DeadlineExceeded));
  assert.equal(outcomes.length, 16);
});

test("whoever answers what was not asked is not listened to for ever", async () => {
  await start({
    stream: (call) =>
      onItems(call, ([first]) => {
        assert(first);
        for (let i = 0; i < 11; i++) {
          send(
            call,
            Array.from({ length: 100 }, () => answerOf({ ...first, itemId: "no such" })),
          );
        }
      }),
  });
  await givenUp(DamagedAnswer as never, 30_000);
});

test("an item is answered once, and sent again once however often it is refused", async () => {
  const seen: string[] = [];
  await start({
    stream: (call) =>
      onItems(call, (items) => {
        const isFirst = seen.length === 0;
        seen.push(...items.map(({ itemId }) => itemId));
        send(
          call,
          items.flatMap((item) =>
            isFirst ? [refusalOf(item, 0), refusalOf(item, 0), answerOf(item)] : [answerOf(item), answerOf(item)],
          ),
        );
      }),
  });
  assert.equal((await collect(client.stream(numbered(3)))).size, 3);
  assert.deepEqual(seen, ["0", "1", "2", "0", "1", "2"]);
});

test("where there is no room for longer than is waited, nothing more is asked, and what was is answered", async () => {
  for (const seconds of [3_600, 315_576_000_000]) {
    await start({
      stream: (call) =>
        onItems(call, (items) => {
          const isFirst = items.some(({ itemId }) => itemId === "0");
          send(
            call,
            items.filter(({ itemId }) => itemId === "0").map((item) => refusalOf(item, seconds)),
          );
          setTimeout(() => send(call, items.filter(({ itemId }) => itemId !== "0").map(answerOf)), isFirst ? 50 : 0);
        }),
    });
    const began = performance.now();
    const outcomes: Streamed[] = [];
    const error = await failed(collectAll(client.stream(numbered(10_000)), outcomes));
    assert(performance.now() - began < 5_000);
    assert(error instanceof Overloaded && error.retryAfterMs === seconds * 1_000 + 20);
    assert(outcomes.length <= 2 * 256 + 1, `${outcomes.length} were read`);
    assert.deepEqual(
      outcomes.map(({ index }) => index).sort((a, b) => a - b),
      [...outcomes.keys()],
    );
    for (const { index, outcome } of outcomes) {
      assert(outcome.kind === "decision" ? index > 0 : outcome.error instanceof Overloaded);
      assert.equal(outcome.requestId, `R-${index}`);
    }
    assert(outcomes.filter(({ outcome }) => outcome.kind === "decision").length >= 15);
    client.close();
    gateway.stop();
  }
  await start({
    stream: (call) => call.emit("error", failure(status.RESOURCE_EXHAUSTED, "OVERLOADED", { retryAfterMs: 900 })),
  });
  const began = performance.now();
  await givenUp(Overloaded as never, 800);
  assert(performance.now() - began < 700);
});

test("a stream goes on with a new certificate, and what the old one asked is answered", async (t) => {
  const callers = new Map<string, number>();
  let answerOld = () => {};
  let isEnded = false;
  await start({
    stream: (call, { subject }) => {
      const isOld = subject === "CN=service";
      const taken: StreamItem[] = [];
      call.on("data", ({ items }: verification.StreamVerifyCredentialsRequest) => {
        callers.set(subject, taken.push(...items));
        if (!isOld) {
          answer(call, items);
        }
        if (taken.length === 32) {
          (isOld ? begun : answerOld)();
        }
      });
      call.on("end", () => {
        isEnded ||= isOld;
        if (!isOld) {
          call.end();
        }
      });
      if (isOld) {
        answerOld = () => {
          answer(call, taken);
          call.end();
        };
      }
    },
  });
  let begun = () => {};
  const isUnderWay = new Promise<void>((resolve) => {
    begun = resolve;
  });
  async function* source() {
    const all = [...numbered(64)];
    yield* all.slice(0, 32);
    await isUnderWay;
    gateway.certify("renewed");
    const now = performance.now.bind(performance);
    t.mock.method(performance, "now", () => now() + 2_000);
    yield* all.slice(32);
  }
  assert.equal((await collect(client.stream(source()))).size, 64);
  assert.deepEqual(
    [...callers],
    [
      ["CN=service", 32],
      ["CN=renewed", 32],
    ],
  );
  assert(isEnded);
});

test("large requests wait for the gateway to read, and none is lost", async () => {
  await start({ stream: (call) => onItems(call, (items) => answer(call, items)) });
  const large = "x".repeat(200_000);
  const requests = [...numbered(300)].map((each) => ({ ...each, presentation: large }));
  assert.equal((await collect(client.stream(requests))).size, 300);
});

test("what is larger than a message fails alone", async () => {
  await start({ stream: (call) => onItems(call, (items) => answer(call, items)) });
  const requests = [...numbered(3)].map((each, i) =>
    i === 1 ? { ...each, presentation: "x".repeat(2_000_000) } : each,
  );
  const kinds: string[] = [];
  for await (const { index, outcome } of client.stream(requests)) {
    kinds[index] = outcome.kind === "failure" ? outcome.error.name : outcome.verdict.kind;
  }
  assert.deepEqual(kinds, ["accepted", "InvalidRequest", "accepted"]);
});

test("what is ended by its caller gives each its outcome first, then the reason", async () => {
  const controller = new AbortController();
  let isAnswered = false;
  await start({
    stream: (call) =>
      onItems(call, (items) => {
        if (!isAnswered) {
          isAnswered = true;
          answer(call, items.slice(0, 5));
        }
      }),
  });
  let read = 0;
  function* counted() {
    for (const each of numbered(10_000)) {
      read++;
      yield each;
    }
  }
  const outcomes: Streamed[] = [];
  const streaming = async () => {
    for await (const each of client.stream(counted(), { signal: controller.signal })) {
      outcomes.push(each);
      if (outcomes.length === 5) {
        controller.abort(new Error("that is enough"));
      }
    }
  };
  await assert.rejects(streaming(), /that is enough/);
  assert.equal(outcomes.length, read);
  assert.equal(new Set(outcomes.map(({ index }) => index)).size, read);
  assert.equal(outcomes.filter(({ outcome }) => outcome.kind === "decision").length, 5);
  for (const { index, outcome } of outcomes) {
    assert.equal(outcome.requestId, `R-${index}`);
    assert(outcome.kind === "decision" || outcome.error.requestId === `R-${index}`);
    assert(outcome.kind === "decision" || /ask again, with the same request id/.test(outcome.error.message));
  }
});

test("a source that never gives another request does not keep an ended stream waiting", async () => {
  const controller = new AbortController();
  await start({ stream: (call) => onItems(call, () => controller.abort(new Error("that is enough"))) });
  async function* stuck() {
    yield* numbered(16);
    await new Promise(() => {});
  }
  const outcomes: Streamed[] = [];
  await assert.rejects(collectAll(client.stream(stuck(), { signal: controller.signal }), outcomes), /that is enough/);
  assert.equal(outcomes.length, 16);
});

test("a batch that is ended by its caller gives what was decided, and each other its request id", async () => {
  const controller = new AbortController();
  let batches = 0;
  await start({
    batch: ({ items }) => {
      if (++batches === 2) {
        controller.abort(new Error("that is enough"));
      }
      const results = items.map(() => ({ result: { $case: "response" as const, value: decided(acceptance()) } }));
      return verification.BatchVerifyCredentialsResponse.encode({ results }).finish();
    },
  });
  const outcomes = await client.verifyAll([...numbered(2_500)], { signal: controller.signal });
  assert.equal(batches, 2);
  for (const [i, outcome] of outcomes.entries()) {
    assert.equal(outcome.requestId, `R-${i}`);
    assert.equal(outcome.kind, i < 1_000 ? "decision" : "failure");
    assert(
      outcome.kind === "decision" || (outcome.error instanceof Unavailable && outcome.error.code === status.CANCELLED),
    );
  }
  assert.equal(outcomes.length, 2_500);
  await assert.rejects(client.verifyAll([...numbered(1)], { signal: controller.signal }), /that is enough/);
});

test("a field that a gateway names cannot break a line", async () => {
  await start({ verify: () => failure(status.INVALID_ARGUMENT, "INVALID_REQUEST", { field: "a\nb\u001b[31m" }) });
  const { message, field } = await failed(client.verify(REQUEST));
  assert.doesNotMatch(message + field, /\p{C}/u);
});

test("whoever leaves early, or whose source fails, leaves nothing open", async () => {
  await start({ stream: (call) => onItems(call, (items) => answer(call, items)) });
  let closed = false;
  function* source() {
    try {
      yield* numbered(2_000);
    } finally {
      closed = true;
    }
  }
  for await (const { outcome } of client.stream(source())) {
    assert.equal(outcome.kind, "decision");
    break;
  }
  assert(closed);
  function* broken() {
    yield* numbered(20);
    throw new Error("the register cannot be read");
  }
  let taken = 0;
  const reading = async () => {
    for await (const _ of client.stream(broken())) {
      taken++;
    }
  };
  await assert.rejects(reading(), /the register cannot be read/);
  assert.equal(taken, 20);
  const controller = new AbortController();
  const aborted = async () => {
    for await (const _ of client.stream(numbered(2_000), { signal: controller.signal })) {
      controller.abort(new Error("that is enough"));
    }
  };
  await assert.rejects(aborted(), /that is enough/);
  await collect(client.stream([]));
});

// -- the process ------------------------------------------------------------------------------------------------------

test("a client that is not closed does not keep a process alive", async () => {
  await start({ verify: () => decision(acceptance()) });
  const program = `
    import { Profile, RecognitionClient } from "recognition-client";
    const client = new RecognitionClient(new Profile(${JSON.stringify(gateway.profile)}));
    console.log((await client.verify({ matter: "HK-QY", presentation: "x" })).verdict.kind);
  `;
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", program], {
    cwd: import.meta.dirname ?? ".",
    timeout: 20_000,
  });
  assert.deepEqual([stdout, stderr], ["accepted\n", ""]);
});
