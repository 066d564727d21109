/** The client: what a relying service asks its own province's gateway. */

import { randomBytes } from "node:crypto";
import { type Call, callUnary, encode, type Method } from "./calls.js";
import { Connections } from "./connections.js";
import { DamagedAnswer, RecognitionError } from "./errors.js";
import { AuditServiceService } from "./gen/recognition/v1/audit.js";
import {
  StepOutcome as StepOutcomeNumber,
  VerificationServiceClient,
  VerificationServiceService,
  type VerifyCredentialRequest,
} from "./gen/recognition/v1/verification.js";
import type { Profile } from "./profile.js";
import { type Language, type Reason, reasonOf } from "./reasons.js";
import { type Streamed, streamResults } from "./stream.js";
import {
  type Challenge,
  challengeOf,
  type Decision,
  decisionOf,
  failureOf,
  type Result,
  resultOf,
  toMessage,
  type VerifyRequest,
} from "./verdicts.js";

const DEADLINE_MS = 10_000;
const BATCH_DEADLINE_MS = 60_000;
const MAX_BATCH_ITEMS = 1_000;
const MAX_BATCH_BYTES = 4 * 1024 * 1024;
/** Tag and length before each item. */
const ITEM_OVERHEAD_BYTES = 6;

/** How a client behaves unless a call says otherwise. */
export interface Options {
  /** How long a call may take, all its tries together, in milliseconds. 10,000. */
  readonly deadlineMs?: number;
  /** How long one batch may take, and a stream wait for an answer, in milliseconds. 60,000. */
  readonly batchDeadlineMs?: number;
}

/** How one call behaves. */
export interface CallOptions {
  /** How long it may take, all its tries together, in milliseconds. */
  readonly deadlineMs?: number | undefined;
  /** Ends it early; it then fails with the signal's reason, and what became of it is not known. */
  readonly signal?: AbortSignal | undefined;
}

/** A consent on record. */
export interface Consent {
  /** Its reference, for {@link VerifyRequest.consentId}. Keep it with the signed document. */
  readonly consentId: string;
  /** When it lapses. */
  readonly expiresAt: Date | undefined;
}

/** How a decision came about. */
export interface Explanation {
  readonly verificationId: string;
  readonly decidedAt: Date | undefined;
  /** The service that asked. */
  readonly service: string;
  readonly matter: string;
  /** accepted, rejected or indeterminate. */
  readonly verdict: string;
  /** Why, unless it was accepted. */
  readonly reason: Reason | undefined;
  /** The steps in the order in which they ran. */
  readonly steps: readonly ExplainedStep[];
}

/** One step of a verification. */
export interface ExplainedStep {
  /** Its number, from 1. */
  readonly number: number;
  /** What it does. */
  readonly title: Readonly<Record<Language, string>>;
  readonly outcome: "passed" | "failed" | "undecided" | "not_reached" | "not_needed" | "unrecognised";
  /** What it looked at, by name. Never an attribute. */
  readonly inputs: Readonly<Record<string, string>>;
  /** Why, if it decided. */
  readonly reason: Reason | undefined;
  /** What that means, if it decided. */
  readonly meaning: Readonly<Record<Language, string>> | undefined;
  /** What would mend it, if it decided. */
  readonly fix: Readonly<Record<Language, string>> | undefined;
}

/**
 * Asks a gateway, over one connection that is kept and made anew as needed. Make one and use it for everything, from any
 * number of places at once; close it in the end.
 *
 * Every method fails with a {@link RecognitionError}, or with the reason of the signal that ended it. It writes no log.
 */
export class RecognitionClient {
  readonly #connections: Connections;
  readonly #address: string;
  readonly #deadlineMs: number;
  readonly #batchDeadlineMs: number;

  /**
   * Prepares a client. The connection is made at the first call.
   *
   * @throws Error if the files of the profile cannot be read, or certificate and key do not fit together.
   */
  constructor(profile: Profile, options: Options = {}) {
    this.#connections = new Connections(profile);
    this.#address = profile.address;
    this.#deadlineMs = options.deadlineMs ?? DEADLINE_MS;
    this.#batchDeadlineMs = options.batchDeadlineMs ?? BATCH_DEADLINE_MS;
  }

  /** Makes a challenge for one presentation. Keep its nonce with the session of whoever is to answer it. */
  async challenge(matter: string, options: CallOptions = {}): Promise<Challenge> {
    return challengeOf(await this.#call(VerificationServiceService.createChallenge, { matter }, options));
  }

  /** Has one presentation verified for one matter. */
  async verify(request: VerifyRequest, options: CallOptions = {}): Promise<Decision> {
    const requestId = request.requestId || newRequestId();
    const message = toMessage(request, requestId);
    const answer = await this.#call(VerificationServiceService.verifyCredential, message, options, requestId);
    return decisionOf(answer, requestId, message.predicates.length);
  }

  /**
   * Has any number of presentations verified, in as many batches as needed, one after the other. Slower than
   * {@link verify} for one, much faster for all.
   *
   * @returns what became of each, in their order. Where a batch fails, each of its requests is a `Failure`.
   */
  async verifyAll(requests: readonly VerifyRequest[], options: CallOptions = {}): Promise<Result[]> {
    const results: Result[] = [];
    let batch: VerifyCredentialRequest[] = [];
    let bytes = 0;
    const flush = async () => {
      results.push(...(await this.#verifyBatch(batch, options)));
      batch = [];
      bytes = 0;
    };
    // All of them are looked at first: nothing is asked if one is not well formed.
    const sized = requests.map((request) => {
      const message = toMessage(request, request.requestId || newRequestId());
      const { length } = encode(VerificationServiceService.verifyCredential, message, message.requestId);
      return { message, size: length + ITEM_OVERHEAD_BYTES };
    });
    for (const { message, size } of sized) {
      if (batch.length === MAX_BATCH_ITEMS || (batch.length > 0 && bytes + size > MAX_BATCH_BYTES)) {
        await flush();
      }
      batch.push(message);
      bytes += size;
    }
    if (batch.length > 0) {
      await flush();
    }
    return results;
  }

  async #verifyBatch(items: VerifyCredentialRequest[], options: CallOptions): Promise<Result[]> {
    const call = { deadlineMs: options.deadlineMs ?? this.#batchDeadlineMs, signal: options.signal };
    try {
      const { results } = await this.#call(VerificationServiceService.batchVerifyCredentials, { items }, call);
      if (results.length !== items.length) {
        throw new DamagedAnswer("not as many results as requests", undefined);
      }
      return items.map(({ requestId, predicates }, i) => resultOf(results[i]?.result, requestId, predicates.length));
    } catch (error) {
      if (error instanceof RecognitionError) {
        return items.map(({ requestId }) => failureOf(error, requestId));
      }
      throw error;
    }
  }

  /**
   * Has any number of presentations verified while they are being read. At most 256 are under way, so whoever takes the
   * results slowly slows down the reading from `requests`.
   *
   * A connection that ends is replaced, and what had no answer is asked again with the same request id. It fails when
   * the gateway gives no answer for as long as `batchDeadlineMs`, or the `deadlineMs` of this call; what was not yielded
   * by then has no decision.
   *
   * @returns each with its position in `requests`, from 0, in any order.
   */
  stream(
    requests: Iterable<VerifyRequest> | AsyncIterable<VerifyRequest>,
    options: CallOptions = {},
  ): AsyncIterableIterator<Streamed> {
    const call = { deadlineMs: options.deadlineMs ?? this.#batchDeadlineMs, signal: options.signal };
    return streamResults(this.#connections, requests, call, newRequestId);
  }

  /**
   * Puts on record that a person consented to a matter that rests on consent. It is not tried again where the connection
   * fails, since there would be two then.
   *
   * @param claims what may be released on its strength.
   * @param lifetimeMs how long it lasts, in milliseconds; 1 second to 366 days.
   */
  async recordConsent(
    matter: string,
    claims: readonly string[],
    lifetimeMs: number,
    options: CallOptions = {},
  ): Promise<Consent> {
    const seconds = Math.floor(lifetimeMs / 1_000);
    const lifetime = { seconds, nanos: Math.floor((lifetimeMs - seconds * 1_000) * 1_000_000) };
    const request = { matter, claims: [...claims], lifetime };
    const { consentId, expireTime } = await this.#call(VerificationServiceService.recordConsent, request, options);
    return { consentId, expiresAt: expireTime };
  }

  /**
   * Puts on record that the person withdrew it. Doing so again changes nothing.
   *
   * @returns since when.
   */
  async withdrawConsent(consentId: string, options: CallOptions = {}): Promise<Date | undefined> {
    return (await this.#call(VerificationServiceService.withdrawConsent, { consentId }, options)).withdrawTime;
  }

  /** Tells step by step how a decision came about, if this service's registration allows it. */
  async explain(verificationId: string, options: CallOptions = {}): Promise<Explanation> {
    const answer = await this.#call(VerificationServiceService.explainVerification, { verificationId }, options);
    return {
      verificationId: answer.verificationId,
      decidedAt: answer.verifyTime,
      service: answer.service,
      matter: answer.matter,
      verdict: answer.verdict,
      reason: answer.reason === 0 ? undefined : reasonOf(answer.reason),
      steps: answer.steps.map((step) => ({
        number: step.number,
        title: step.title ?? { zh: "", en: "" },
        outcome: STEP_OUTCOMES[step.outcome] ?? "unrecognised",
        inputs: step.inputs,
        reason: step.reason === 0 ? undefined : reasonOf(step.reason),
        meaning: step.meaning,
        fix: step.fix,
      })),
    };
  }

  /** Gives all that proves one verification: one JSON document, which the clients for Python and Java check offline. */
  async evidence(verificationId: string, options: CallOptions = {}): Promise<Uint8Array> {
    const { evidence } = await this.#call(AuditServiceService.getEvidence, { verificationId }, options);
    return Buffer.from(evidence, "utf8");
  }

  /**
   * Gives the generated stub, on this client's connection, for what this client does not do. Deadlines and errors are
   * then yours. Ask for it anew before each call: it does not outlive a change of certificate.
   */
  stub(): VerificationServiceClient {
    const channelOverride = this.#connections.current().client.getChannel();
    // The channel brings its own; these are asked for and not used.
    return new VerificationServiceClient(this.#address, undefined as never, { channelOverride });
  }

  /** Takes no more calls, and disconnects when those under way are over. */
  close(): void {
    this.#connections.close();
  }

  #call<Request, Answer>(
    method: Method<Request, Answer>,
    request: Request,
    options: CallOptions,
    requestId?: string,
  ): Promise<Answer> {
    const call: Call = { deadlineMs: options.deadlineMs ?? this.#deadlineMs, signal: options.signal, requestId };
    return callUnary(this.#connections, method, request, call);
  }
}

const STEP_OUTCOMES: { readonly [number: number]: Exclude<ExplainedStep["outcome"], "unrecognised"> } = {
  [StepOutcomeNumber.PASSED]: "passed",
  [StepOutcomeNumber.FAILED]: "failed",
  [StepOutcomeNumber.UNDECIDED]: "undecided",
  [StepOutcomeNumber.NOT_REACHED]: "not_reached",
  [StepOutcomeNumber.NOT_NEEDED]: "not_needed",
};

/** 128 random bits. A leading "-" would look like an option to tools that are given one. */
function newRequestId(): string {
  return randomBytes(16).toString("base64url").replace(/^-/, "A");
}
