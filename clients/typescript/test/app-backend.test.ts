/** The example of an app's backend, end to end: a holder's app, the backend, and real gateways behind it. */

import assert from "node:assert/strict";
import type { JsonWebKey } from "node:crypto";
import { once } from "node:events";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { status } from "@grpc/grpc-js";
import { RecognitionClient } from "recognition-client";
import { present } from "recognition-client/holder";
import { verification } from "recognition-client/stubs";
import { appBackend } from "../examples/app-backend/server.js";
import { type Answer, acceptance, type Behaviour, decision, Gateway } from "./gateway.js";
import { post as control, holder, type Service, STAGED, service } from "./stage.js";

interface Answered {
  readonly status: number;
  readonly retryAfter: string | null;
  // biome-ignore lint/suspicious/noExplicitAny: what an app reads is JSON
  readonly body: any;
}

let hukou: Service;
let backend: Server;
let credential: string;
let key: JsonWebKey;

before(async () => {
  if (STAGED.skip) {
    return;
  }
  hukou = await service("hukou");
  ({ credential, holder_key: key } = await holder());
  backend = appBackend(hukou.client, hukou.matter);
  await new Promise<void>((resolve) => backend.listen(0, "127.0.0.1", resolve));
});

after(() => {
  backend?.close();
  hukou?.client.close();
});

async function post(path: string, body: unknown = {}, server = backend): Promise<Answered> {
  const { port } = server.address() as AddressInfo;
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { method: "POST", body: text });
  return { status: response.status, retryAfter: response.headers.get("retry-after"), body: await response.json() };
}

/** What the app does: ask for a challenge, let the person choose, and answer it. */
async function answerChallenge(disclose?: readonly string[]): Promise<{ session: string; presentation: string }> {
  const { status, body } = await post("/challenges");
  assert.equal(status, 201);
  const { session, nonce, audience } = body;
  return { session, presentation: present(credential, key, { nonce, audience, ...(disclose && { disclose }) }) };
}

test("a person is accepted, once", STAGED, async () => {
  const answer = await answerChallenge();
  const { status, body } = await post("/presentations", answer);
  assert.deepEqual([status, body.outcome], [200, "accepted"]);
  assert.deepEqual(Object.keys(body).sort(), ["outcome", "verification_id"]);
  assert.equal((await post("/presentations", answer)).status, 400);
});

test("a person who is refused is told why and what to do, in both languages", STAGED, async () => {
  const { status, body } = await post("/presentations", await answerChallenge(["name"]));
  assert.deepEqual([status, body.outcome], [200, "refused"]);
  assert.match(body.what.zh, /\p{Script=Han}/u);
  assert.match(body.what.en, /this matter needs/);
  assert(body.next_step.zh && body.next_step.en);
});

test("a presentation made for another session is refused", STAGED, async () => {
  const { session } = await answerChallenge();
  const { presentation } = await answerChallenge();
  assert.equal((await post("/presentations", { session, presentation })).body.outcome, "refused");
});

test("where nobody can decide, the person is asked to come again, and is then accepted", STAGED, async () => {
  const answer = await answerChallenge();
  await control("/kill");
  try {
    const { status, retryAfter, body } = await post("/presentations", answer);
    assert.deepEqual([status, body.outcome], [503, "try_later"]);
    assert(Number(retryAfter) > 0 && body.next_step.zh);
  } finally {
    await control("/start");
  }
  for (let tries = 0; tries < 20; tries++) {
    const { status, body } = await post("/presentations", answer);
    if (status !== 503) {
      assert.deepEqual([status, body.outcome], [200, "accepted"]);
      return;
    }
  }
  assert.fail("it was never decided");
});

test("where waiting mends nothing, the person is told to call support", async () => {
  const gateway = await Gateway.start({ challenge: () => ({ code: status.PERMISSION_DENIED }) });
  const client = new RecognitionClient(gateway.profile);
  const server = appBackend(client, "HK-QY").listen(0, "127.0.0.1");
  try {
    await once(server, "listening");
    const { status: code, retryAfter, body } = await post("/challenges", {}, server);
    assert.deepEqual([code, retryAfter, body.outcome], [500, null, "call_support"]);
    assert.match(body.next_step.zh, /技术支持/);
    gateway.stop();
    assert.equal((await post("/challenges", {}, server)).body.outcome, "try_later");
  } finally {
    server.close();
    client.close();
  }
});

/** A gateway in this process, and a backend before it. */
async function together(
  behaviour: Behaviour,
  maxSessions: number,
  then: (server: Server) => Promise<void>,
): Promise<void> {
  const gateway = await Gateway.start({
    challenge: () => {
      const challenge = { nonce: "n", audience: "https://app.example", expireTime: new Date(Date.now() + 60_000) };
      return verification.CreateChallengeResponse.encode(challenge).finish();
    },
    ...behaviour,
  });
  const client = new RecognitionClient(gateway.profile);
  const server = appBackend(client, "HK-QY", maxSessions).listen(0, "127.0.0.1");
  try {
    await once(server, "listening");
    await then(server);
  } finally {
    server.close();
    client.close();
    gateway.stop();
  }
}

test("of two presentations at once one is acted upon", async () => {
  let asked = () => {};
  let answer: (given: Answer) => void = () => {};
  const requestIds: string[] = [];
  const verify = ({ requestId }: verification.VerifyCredentialRequest) =>
    new Promise<Answer>((resolve) => {
      requestIds.push(requestId);
      answer = resolve;
      asked();
    });
  await together({ verify }, 10, async (server) => {
    const { body } = await post("/challenges", {}, server);
    const present = () => {
      const isAsked = new Promise<void>((resolve) => {
        asked = resolve;
      });
      return { isAsked, answered: post("/presentations", { session: body.session, presentation: "x" }, server) };
    };
    const first = present();
    await first.isAsked;
    assert.equal((await present().answered).status, 409);
    answer({ code: status.INTERNAL });
    assert.equal((await first.answered).body.outcome, "call_support");
    const again = present();
    await again.isAsked;
    answer(decision(acceptance()));
    assert.equal((await again.answered).body.outcome, "accepted");
    assert.equal((await present().answered).status, 400);
    assert.equal(new Set(requestIds).size, 1);
    assert.equal(requestIds.length, 2);
  });
});

test("whoever asks for ever more sessions ends nobody else's", async () => {
  await together({ verify: () => decision(acceptance()) }, 3, async (server) => {
    const { body } = await post("/challenges", {}, server);
    const others = await Promise.all(Array.from({ length: 6 }, () => post("/challenges", {}, server)));
    assert.deepEqual(others.map((each) => each.status).sort(), [201, 201, 503, 503, 503, 503]);
    const refused = others.find((each) => each.status === 503);
    assert(refused?.body.outcome === "try_later" && refused.body.what.zh && refused.body.next_step.zh);
    const presented = await post("/presentations", { session: body.session, presentation: "x" }, server);
    assert.equal(presented.body.outcome, "accepted");
    assert.equal((await post("/challenges", {}, server)).status, 201);
  });
});

test("what is no request is told so", STAGED, async () => {
  for (const body of ["", "null", "x".repeat(200_000), { session: 1 }, { session: "unknown", presentation: "x" }]) {
    assert.equal((await post("/presentations", body)).status, 400);
  }
  assert.equal((await post("/nothing")).status, 404);
});
