/** The client against a gateway in this process: what a real one does rarely, or does not do yet. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
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
  Overloaded,
  Profile,
  RecognitionClient,
  type RecognitionError,
  Refused,
  type Streamed,
  Unavailable,
  type VerifyRequest,
} from "recognition-client";
import { errorDetails, rpcStatus, verification } from "recognition-client/stubs";
import { makeCa } from "./certificates.js";
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
  for (const shown of [inspect(verdict, { depth: 9 }), JSON.stringify({ verdict, rest }), inspect({ ...verdict })]) {
    assert.doesNotMatch(shown, SECRETS);
  }
});

test("a challenge does not show its nonce to a log", async () => {
  const answer = { nonce: "SECRET", audience: "https://service.example", expireTime: new Date() };
  await start({ challenge: () => verification.CreateChallengeResponse.encode(answer).finish() });
  const challenge = await client.challenge("HK-QY");
  assert.equal(challenge.nonce, "SECRET");
  assert.doesNotMatch(inspect(challenge), SECRETS);
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

const DAMAGED: { readonly [what: string]: Uint8Array } = {
  "no verdict": decision(undefined),
  "a verdict of a kind that is not known": Buffer.concat([decision(undefined), NEW_FIELD]),
  "a predicate without an answer": decision(acceptance({ predicateAnswers: [0] })),
  "a predicate with an answer that is not known": decision(acceptance({ predicateAnswers: [3 as never] })),
  "fewer answers than predicates": decision(acceptance()),
  "more answers than predicates": decision(acceptance({ predicateAnswers: [1, 1] })),
  "no id": verification.VerifyCredentialResponse.encode({ ...decided(acceptance()), verificationId: "" }).finish(),
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

test("what is no request at all is not sent", async () => {
  let calls = 0;
  const count = () => {
    calls++;
    return decision(acceptance());
  };
  await start({ verify: count, batch: count, stream: count });
  const request = { ...REQUEST, predicates: [{ ageAtLeast: 17.5 }] };
  assert((await failed(client.verify(request))) instanceof InvalidRequest);
  assert((await failed(client.verifyAll([REQUEST, request]))) instanceof InvalidRequest);
  assert((await failed(collect(client.stream([request])))) instanceof InvalidRequest);
  assert.equal(calls, 0);
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
  let calls = 0;
  await start({
    consent: () => {
      calls++;
      return failure(status.UNAVAILABLE, "UNAVAILABLE");
    },
  });
  assert((await failed(client.recordConsent("XS-RH", ["name"], 86_400_000))) instanceof Unavailable);
  assert.equal(calls, 1);
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

test("a gateway of another CA is not spoken to", async () => {
  await start({ verify: () => decision(acceptance()) });
  client.close();
  writeFileSync(gateway.profile.ca, makeCa("Another CA").certificate);
  client = new RecognitionClient(gateway.profile);
  assert((await failed(client.verify(REQUEST, { deadlineMs: 2_000 }))) instanceof Unavailable);
});

test("a gateway that is certified under another name is not spoken to", async () => {
  await start({ verify: () => decision(acceptance()) }, "127.0.0.2");
  const error = await failed(client.verify(REQUEST, { deadlineMs: 2_000 }));
  assert(error instanceof Unavailable, error.stack);
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

test("a client that is closed says so", async () => {
  await start({ verify: () => decision(acceptance()) });
  client.close();
  await assert.rejects(client.verify(REQUEST), /closed/);
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
      ];
      return verification.BatchVerifyCredentialsResponse.encode({ results }).finish();
    },
  });
  const results = await client.verifyAll(Array.from({ length: 5 }, () => REQUEST));
  const kinds = results.map((each) => (each.kind === "failure" ? each.error.name : each.verdict.kind));
  assert.deepEqual(kinds, ["InvalidRequest", "DamagedAnswer", "DamagedAnswer", "rejected", "Internal"]);
  for (const result of await client.verifyAll([REQUEST])) {
    assert(result.kind === "failure" && result.error instanceof DamagedAnswer); // five results for one request
  }
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
  for await (const { index, result } of stream) {
    assert(result.kind === "decision" && !found.has(index));
    assert.equal(result.verificationId, `V-R-${index}`);
    found.set(index, result);
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
  for await (const { index, result } of client.stream(numbered(40))) {
    if (result.kind === "failure") {
      failures++;
      assert(index === 7 && result.error instanceof Overloaded && result.requestId === "R-7");
    }
  }
  assert.equal(failures, 1);
  assert.deepEqual([seen.size, seen.get("7"), seen.get("8")], [40, 3, 2]);
});

test("a stream that is refused ends in that error", async () => {
  await start({ stream: (call) => call.emit("error", failure(status.PERMISSION_DENIED, "NOT_PERMITTED")) });
  const error = await failed(collect(client.stream(numbered(20))));
  assert(error instanceof NotPermitted && error.reason === "NOT_PERMITTED");
});

test("a stream without answers ends", async () => {
  await start({ stream: (call) => onItems(call, () => {}) });
  assert((await failed(collect(client.stream(numbered(20), { deadlineMs: 200 })))) instanceof DeadlineExceeded);
  gateway.stop();
  const error = await failed(collect(client.stream(numbered(20), { deadlineMs: 500 })));
  assert(error instanceof Unavailable, error.stack);
  gateway = await Gateway.start({});
});

test("what is larger than a message fails alone", async () => {
  await start({ stream: (call) => onItems(call, (items) => answer(call, items)) });
  const requests = [...numbered(3)].map((each, i) =>
    i === 1 ? { ...each, presentation: "x".repeat(2_000_000) } : each,
  );
  const kinds: string[] = [];
  for await (const { index, result } of client.stream(requests)) {
    kinds[index] = result.kind === "failure" ? result.error.name : result.verdict.kind;
  }
  assert.deepEqual(kinds, ["accepted", "InvalidRequest", "accepted"]);
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
  for await (const { result } of client.stream(source())) {
    assert.equal(result.kind, "decision");
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
