/**
 * The backend of a government app: it makes challenges for the app and takes the presentations that answer them.
 *
 *   POST /challenges                                  201 {session, nonce, audience, expires_at}
 *   POST /presentations {session, presentation}       200 {outcome: "accepted", verification_id}
 *                                                     200 {outcome: "refused", what, next_step, verification_id}
 *                                                     409 {error}: it is being verified already
 *                                                     503 {outcome: "try_later", what, next_step}, Retry-After
 *                                                     500 {outcome: "call_support", what, next_step}
 *
 * What the app shows people comes in Chinese and in English. Four rules make it safe:
 *
 * - The nonce stays with the session: an app cannot bring one of its own.
 * - A session has one presentation under way at a time, so that two that come at once do not act twice. It is taken
 *   before anything is waited for. A backend of several processes takes it in what they share.
 * - "Accepted" is said in one place, after a verdict of that kind. Whatever else happens is not an acceptance.
 * - Where nobody decided, the session stays, and the app sends the same presentation again. It then goes to the gateway
 *   under the same request id, so what had been decided unheard is not decided twice. The id is made
 *   here: one that the app brought, or the number of a case, would let others have that answer.
 */

import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { argv } from "node:process";
import { fileURLToPath } from "node:url";
import {
  DeadlineExceeded,
  InvalidRequest,
  type Language,
  nextStepText,
  Overloaded,
  Profile,
  type Reason,
  RecognitionClient,
  RecognitionError,
  reasonText,
  Unavailable,
} from "recognition-client";

const MAX_BODY_BYTES = 100_000;
const MAX_SESSIONS = 10_000;
const RETRY_SECONDS = 5;
const LANGUAGES: readonly Language[] = ["zh", "en"];

interface Session {
  readonly nonce: string;
  readonly requestId: string;
  readonly until: number;
  isUnderWay: boolean;
}

interface Reply {
  readonly status: number;
  readonly body: object;
  readonly headers?: Record<string, string>;
}

/**
 * Makes the backend for one matter; it listens when it is told to.
 *
 * @param maxSessions how many may be open at one time. What is in front of the backend limits how many one caller opens.
 */
export function appBackend(client: RecognitionClient, matter: string, maxSessions = MAX_SESSIONS): Server {
  const sessions = new Map<string, Session>();

  let challenges = 0;

  async function challenge(): Promise<Reply> {
    for (const [name, { until, isUnderWay }] of sessions) {
      if (until > Date.now()) {
        break; // They are in the order of their ends.
      }
      if (!isUnderWay) {
        sessions.delete(name);
      }
    }
    if (sessions.size + challenges >= maxSessions) {
      return full(); // Whoever asks for ever more sessions ends nobody else's.
    }
    challenges++;
    const { nonce, audience, expiresAt } = await client.challenge(matter).finally(() => challenges--);
    const session = randomBytes(16).toString("base64url");
    const requestId = `app-${randomBytes(12).toString("hex")}`;
    sessions.set(session, { nonce, requestId, until: expiresAt.getTime(), isUnderWay: false });
    return { status: 201, body: { session, nonce, audience, expires_at: expiresAt } };
  }

  async function present(body: unknown): Promise<Reply> {
    const { session: name, presentation } = body as Record<string, unknown>;
    const session = typeof name === "string" ? sessions.get(name) : undefined;
    if (typeof name !== "string" || session === undefined || typeof presentation !== "string") {
      return { status: 400, body: { error: "no such session, or no presentation" } };
    }
    if (session.isUnderWay) {
      return { status: 409, body: { error: "the answer to this session is being verified" } };
    }
    session.isUnderWay = true; // before anything is waited for
    try {
      return await decide(name, session, presentation);
    } finally {
      session.isUnderWay = false;
    }
  }

  async function decide(name: string, { nonce, requestId }: Session, presentation: string): Promise<Reply> {
    const { verdict, verificationId } = await client.verify({ matter, presentation, nonce, requestId });
    switch (verdict.kind) {
      case "accepted":
        sessions.delete(name);
        // Here the matter goes on, once for each verificationId, with verdict.attributes; they are to be erased at
        // verdict.eraseAt.
        return { status: 200, body: { outcome: "accepted", verification_id: verificationId } };
      case "rejected":
        sessions.delete(name);
        return { status: 200, body: { outcome: "refused", ...words(verdict.reason), verification_id: verificationId } };
      case "indeterminate":
        return tryLater(words(verdict.reason), verdict.retryAfterMs);
      default:
        return verdict satisfies never;
    }
  }

  async function reply(request: IncomingMessage): Promise<Reply> {
    try {
      switch (`${request.method} ${request.url}`) {
        case "POST /challenges":
          return await challenge();
        case "POST /presentations":
          return await present(await read(request));
        default:
          return { status: 404, body: { error: "there is no such thing here" } };
      }
    } catch (error) {
      if (error instanceof InvalidRequest) {
        return { status: 400, body: { error: "the gateway does not take this", field: error.field } };
      }
      if (error instanceof RecognitionError) {
        console.error(error.message); // It holds no presentation, no nonce and no attribute.
        return undecided(error);
      }
      if (error instanceof SyntaxError || error instanceof RangeError) {
        return { status: 400, body: { error: "not JSON, or too much of it" } };
      }
      throw error;
    }
  }

  return createServer((request, response) => {
    reply(request).then(
      ({ status, body, headers }) => {
        response.writeHead(status, { "content-type": "application/json; charset=utf-8", ...headers });
        response.end(JSON.stringify(body));
      },
      (error: unknown) => {
        console.error(error);
        response.writeHead(500).end();
      },
    );
  });
}

function tryLater(text: object, retryAfterMs = RETRY_SECONDS * 1_000): Reply {
  const headers = { "retry-after": String(Math.ceil(retryAfterMs / 1_000)) };
  return { status: 503, body: { outcome: "try_later", ...text }, headers };
}

function words(reason: Reason): object {
  return {
    what: inBoth((language) => reasonText(reason, language).what),
    next_step: inBoth((language) => reasonText(reason, language).nextStep),
  };
}

function full(): Reply {
  const what = { zh: "目前使用的人太多。", en: "Too many people are using this at present." };
  return tryLater({ what, next_step: inBoth((language) => nextStepText("RETRY_LATER", language)) });
}

/** What to say where there is no decision. That is no refusal, and the person has done nothing wrong. */
function undecided(error: RecognitionError): Reply {
  const what = { zh: "目前无法核验。", en: "It cannot be verified at present." };
  if (error instanceof Overloaded || error instanceof Unavailable || error instanceof DeadlineExceeded) {
    const text = { what, next_step: inBoth((language) => nextStepText("RETRY_LATER", language)) };
    return tryLater(text, error.retryAfterMs);
  }
  // A missing registration, a fault: waiting mends neither.
  const next_step = inBoth((language) => nextStepText("CALL_SUPPORT", language));
  return { status: 500, body: { outcome: "call_support", what, next_step } };
}

function inBoth(text: (language: Language) => string): object {
  return Object.fromEntries(LANGUAGES.map((language) => [language, text(language)]));
}

async function read(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes <= MAX_BODY_BYTES) {
      parts.push(part); // What is too much is read and dropped: who still sends does not listen.
    }
  }
  if (bytes > MAX_BODY_BYTES) {
    throw new RangeError("the body is too large");
  }
  const body: unknown = JSON.parse(Buffer.concat(parts).toString("utf8"));
  if (typeof body !== "object" || body === null) {
    throw new SyntaxError("not a JSON object");
  }
  return body;
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const [profile = ".lab/ah/clients/hukou.toml", matter = "HK-QY", port = "8080"] = argv.slice(2);
  const client = new RecognitionClient(await Profile.read(profile));
  appBackend(client, matter).listen(Number(port), "127.0.0.1", () => console.log(`http://127.0.0.1:${port}`));
}
