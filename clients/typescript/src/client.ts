/** The client: what a relying service asks its own province's gateway. */

import { type Call, callUnary, type Method } from "./calls.js";
import { Connections } from "./connections.js";
import { DamagedAnswer, endedError, InvalidRequest, RecognitionError } from "./errors.js";
import { AuditServiceService } from "./gen/recognition/v1/audit.js";
import {
  StepOutcome as StepOutcomeNumber,
  VerificationServiceClient,
  VerificationServiceService,
  type VerifyCredentialRequest,
} from "./gen/recognition/v1/verification.js";
import { Profile } from "./profile.js";
import { type Language, type Reason, reasonOf } from "./reasons.js";
import { Check, requestIdOf, toMessage, type VerifyRequest } from "./requests.js";
import { type Streamed, streamOutcomes } from "./stream.js";
import {
  type Challenge,
  type Consent,
  challengeOf,
  consentOf,
  type Decision,
  decisionOf,
  failureOf,
  type Outcome,
  outcomeOf,
  Whole,
  withdrawalOf,
} from "./verdicts.js";

const DEADLINE_MS = 10_000;
const BATCH_DEADLINE_MS = 60_000;
const MAX_BATCH_ITEMS = 1_000;
const MAX_BATCH_BYTES = 4 * 1024 * 1024;
/** Tag and length before each item. */
const ITEM_OVERHEAD_BYTES = 6;
/** What a timer of Node.js can wait. */
const MAX_DEADLINE_MS = 2 ** 31 - 1;
/** What the contract's durations can hold. */
const MAX_LIFETIME_MS = 315_576_000_000 * 1_000;

/** How a client behaves unless a call says otherwise. */
export interface Options {
  /** How long a call may take, all its tries together, in milliseconds; above 0. 10,000. */
  readonly deadlineMs?: number;
  /** How long one batch may take, and a stream wait for an answer, in milliseconds; above 0. 60,000. */
  readonly batchDeadlineMs?: number;
}

/** How one call behaves. */
export interface CallOptions {
  /** How long it may take, all its tries together, in milliseconds; above 0. */
  readonly deadlineMs?: number | undefined;
  /**
   * Ends it early; it then fails with the signal's reason, and what became of it is not known. A batch and a stream give
   * what they have first, with a `Failure` for each request that has no decision.
   */
  readonly signal?: AbortSignal | undefined;
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
  readonly #deadlineMs: number;
  readonly #batchDeadlineMs: number;

  /**
   * Prepares a client. The connection is made at the first call.
   *
   * @throws Error if the files of the profile cannot be read, or certificate and key do not fit together.
   * @throws TypeError if it is given no profile.
   * @throws InvalidRequest if a deadline is none.
   */
  constructor(profile: Profile, options: Options = {}) {
    if (profile instanceof Promise) {
      throw new TypeError("the profile is a promise: write `new RecognitionClient(await Profile.read(file))`");
    }
    this.#deadlineMs = deadlineOf("deadlineMs", options.deadlineMs ?? DEADLINE_MS);
    this.#batchDeadlineMs = deadlineOf("batchDeadlineMs", options.batchDeadlineMs ?? BATCH_DEADLINE_MS);
    this.#connections = new Connections(new Profile(profile));
  }

  /** Makes a challenge for one presentation. Keep its nonce with the session of whoever is to answer it. */
  async challenge(matter: string, options: CallOptions = {}): Promise<Challenge> {
    const request = { matter: new Check().text("matter", matter) };
    return challengeOf(await this.#call(VerificationServiceService.createChallenge, request, options));
  }

  /**
   * Has one presentation verified for one matter.
   *
   * A request that cannot be sent is an `InvalidRequest`, and is not sent.
   */
  async verify(request: VerifyRequest, options: CallOptions = {}): Promise<Decision> {
    const requestId = requestIdOf(request);
    const { message, bytes } = toMessage(request, requestId);
    const call = { ...this.#options(options), requestId };
    const answer = await callUnary(this.#connections, VerificationServiceService.verifyCredential, bytes, call);
    return decisionOf(answer, requestId, message.predicates.length);
  }

  /**
   * Has any number of presentations verified, in as many batches as needed, one after the other. Slower than
   * {@link verify} for one, much faster for all.
   *
   * @returns what became of each, in their order. A request that cannot be sent is a `Failure`, and the others are asked
   *   all the same. Where a batch fails, each of its requests is a `Failure`; where the signal ends it, so is each that
   *   has no decision yet. Such a one may have been decided: ask again under the `requestId` of its `Failure`.
   */
  async verifyAll(requests: readonly VerifyRequest[], options: CallOptions = {}): Promise<Outcome[]> {
    const call = this.#options(options, this.#batchDeadlineMs);
    call.signal?.throwIfAborted(); // while nothing was asked
    const outcomes: Outcome[] = [];
    let batch: Item[] = [];
    let size = 0;
    const flush = async () => {
      const answered = await this.#verifyBatch(
        batch.map(({ message }) => message),
        call,
      );
      for (const [i, { index }] of batch.entries()) {
        outcomes[index] = answered[i] as Outcome; // there is one for each
      }
      batch = [];
      size = 0;
    };
    for (const [index, request] of requests.entries()) {
      const requestId = requestIdOf(request);
      try {
        const { message, bytes } = toMessage(request, requestId);
        const needed = bytes.length + ITEM_OVERHEAD_BYTES;
        if (batch.length === MAX_BATCH_ITEMS || size + needed > MAX_BATCH_BYTES) {
          await flush();
        }
        batch.push({ index, message });
        size += needed;
      } catch (error) {
        if (!(error instanceof InvalidRequest)) {
          throw error;
        }
        outcomes[index] = failureOf(error, requestId);
      }
    }
    if (batch.length > 0) {
      await flush();
    }
    return outcomes;
  }

  async #verifyBatch(items: VerifyCredentialRequest[], call: Call): Promise<Outcome[]> {
    const method = VerificationServiceService.batchVerifyCredentials;
    try {
      const { results } = await callUnary(this.#connections, method, method.requestSerialize({ items }), call);
      if (results.length !== items.length) {
        throw new DamagedAnswer({ description: "not as many results as requests" });
      }
      return items.map(({ requestId, predicates }, i) => outcomeOf(results[i]?.result, requestId, predicates.length));
    } catch (error) {
      if (error instanceof RecognitionError || call.signal?.aborted) {
        const failed = error instanceof RecognitionError ? error : endedError();
        return items.map(({ requestId }) => failureOf(failed.forRequest(requestId), requestId));
      }
      throw error;
    }
  }

  /**
   * Has any number of presentations verified while they are being read. At most 256 are under way, so whoever takes the
   * results slowly slows down the reading from `requests`.
   *
   * A connection that ends is replaced, and what had no answer is asked again with the same request id. When the gateway
   * gives no answer for as long as `batchDeadlineMs`, or the `deadlineMs` of this call, whatever is under way is a
   * `Failure` with the error that was last heard; then, if `requests` has more, the stream fails with it. The same holds
   * if the gateway does not permit the stream, has no room for longer than that, or if this client is closed; and if the
   * signal ends it, which then fails with the signal's reason. What is a `Failure` for any of this may have been decided:
   * ask again under its `requestId`. Whoever leaves the loop early is given nothing more, so whoever wants to ask again
   * then gives request ids of their own. A request that cannot be sent is a `Failure`, and spoils no other.
   *
   * @returns each with its position in `requests`, from 0, in any order.
   */
  stream(
    requests: Iterable<VerifyRequest> | AsyncIterable<VerifyRequest>,
    options: CallOptions = {},
  ): AsyncIterableIterator<Streamed> {
    return streamOutcomes(this.#connections, requests, this.#options(options, this.#batchDeadlineMs));
  }

  /**
   * Puts on record that a person consented to a matter that rests on consent. It is asked once and never again, neither
   * where the connection fails nor where there is no room, since there might be two then.
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
    const check = new Check();
    const milliseconds = check.milliseconds("lifetime", lifetimeMs, MAX_LIFETIME_MS);
    const seconds = Math.floor(milliseconds / 1_000);
    const request = {
      matter: check.text("matter", matter),
      claims: check.texts("claims", claims),
      lifetime: { seconds, nanos: Math.floor((milliseconds - seconds * 1_000) * 1_000_000) },
    };
    return consentOf(await this.#call(VerificationServiceService.recordConsent, request, options, true));
  }

  /**
   * Puts on record that the person withdrew it. Doing so again changes nothing.
   *
   * @returns since when.
   */
  async withdrawConsent(consentId: string, options: CallOptions = {}): Promise<Date> {
    const request = { consentId: new Check().text("consent_id", consentId) };
    return withdrawalOf(await this.#call(VerificationServiceService.withdrawConsent, request, options));
  }

  /** Tells step by step how a decision came about, if this service's registration allows it. */
  async explain(verificationId: string, options: CallOptions = {}): Promise<Explanation> {
    const request = { verificationId: new Check().text("verification_id", verificationId) };
    const answer = await this.#call(VerificationServiceService.explainVerification, request, options);
    return {
      verificationId: answer.verificationId,
      decidedAt: new Whole("an explanation").timeIfAny("time", answer.verifyTime),
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

  /**
   * Gives all that proves one verification: one JSON document. The clients for Python (`recognition.evidence`) and Java
   * (package `example.recognition.evidence`) check it offline; this one does not.
   */
  async evidence(verificationId: string, options: CallOptions = {}): Promise<Uint8Array> {
    const request = { verificationId: new Check().text("verification_id", verificationId) };
    const { evidence } = await this.#call(AuditServiceService.getEvidence, request, options);
    return Buffer.from(evidence, "utf8");
  }

  /**
   * Gives the generated stub, on this client's connection, for what this client does not do. Deadlines and errors are
   * then yours. Ask for it anew before each call: it does not outlive a change of certificate.
   */
  stub(): VerificationServiceClient {
    const channelOverride = this.#connections.current().client.getChannel();
    // The channel brings its own; these are asked for and not used.
    return new VerificationServiceClient(this.#connections.address, undefined as never, { channelOverride });
  }

  /** Disconnects. Calls under way, and calls from now on, are `Unavailable`. */
  close(): void {
    this.#connections.close();
  }

  async #call<Request, Answer>(
    method: Method<Request, Answer>,
    request: Request,
    options: CallOptions,
    isOnce = false,
  ): Promise<Answer> {
    const call = { ...this.#options(options), isOnce };
    return callUnary(this.#connections, method, method.requestSerialize(request), call);
  }

  #options({ deadlineMs, signal }: CallOptions, otherwise = this.#deadlineMs): Call {
    return { deadlineMs: deadlineMs === undefined ? otherwise : deadlineOf("deadlineMs", deadlineMs), signal };
  }
}

/** A request of a batch, and its position among all. */
interface Item {
  readonly index: number;
  readonly message: VerifyCredentialRequest;
}

function deadlineOf(option: string, milliseconds: number): number {
  return new Check().milliseconds(option, milliseconds, MAX_DEADLINE_MS);
}

const STEP_OUTCOMES: { readonly [number: number]: Exclude<ExplainedStep["outcome"], "unrecognised"> } = {
  [StepOutcomeNumber.PASSED]: "passed",
  [StepOutcomeNumber.FAILED]: "failed",
  [StepOutcomeNumber.UNDECIDED]: "undecided",
  [StepOutcomeNumber.NOT_REACHED]: "not_reached",
  [StepOutcomeNumber.NOT_NEEDED]: "not_needed",
};
