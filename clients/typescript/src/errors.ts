/**
 * What goes wrong when no decision comes. An error is evidence of nothing: neither that a presentation is good nor that
 * it is bad. No error holds a presentation, a nonce or an attribute.
 */

import { type Metadata, status } from "@grpc/grpc-js";
import type { Duration } from "./gen/google/protobuf/duration.js";
import { BadRequest, ErrorInfo, RetryInfo } from "./gen/google/rpc/error_details.js";
import { Status } from "./gen/google/rpc/status.js";
import type { VerificationError } from "./gen/recognition/v1/verification.js";

const ERROR_DOMAIN = "recognition.v1";
/** Characters of what somebody else wrote. */
const MAX_SAID = 400;

/** What all errors of this client say. */
export interface ErrorDetails {
  /** The gRPC status code. */
  readonly code: status;
  /** What went wrong, for programs: CALLER_RATE_EXCEEDED, NOT_PERMITTED. Empty: the gateway did not say. */
  readonly reason?: string;
  /** What went wrong, for developers. */
  readonly description?: string | undefined;
  /** The field of the request that is at fault. */
  readonly field?: string | undefined;
  /** When asking again may help: milliseconds from now. */
  readonly retryAfterMs?: number | undefined;
  /** The request's reference in the log of the gateway. */
  readonly requestId?: string | undefined;
  /** What to do, where it is not what is usual for errors of its class. */
  readonly advice?: string | undefined;
}

/** There is no answer. Which of the classes below it is tells what to do. */
export abstract class RecognitionError extends Error {
  /** The gRPC status code. */
  readonly code: status;
  /** What went wrong, for programs: CALLER_RATE_EXCEEDED, NOT_PERMITTED. Empty: the gateway did not say. */
  readonly reason: string;
  /** The field of the request that is at fault, if one is: `nonce`, `predicates[0].age_at_least`. */
  readonly field: string | undefined;
  /** When asking again may help: milliseconds from now. */
  readonly retryAfterMs: number | undefined;
  /** The request's reference in the log of the gateway; undefined for calls that have none. */
  readonly requestId: string | undefined;

  readonly #details: ErrorDetails;

  constructor(advice: string, details: ErrorDetails) {
    const reason = printable(details.reason ?? "");
    const said = [printable(details.description ?? ""), reason].filter((each) => each !== "").join(": ");
    const request = details.requestId ? ` Request ${printable(details.requestId)}.` : "";
    super(`${details.advice ?? advice}${said && ` [${said}]`}${request}`);
    this.code = details.code;
    this.reason = reason;
    this.field = details.field && printable(details.field);
    this.retryAfterMs = details.retryAfterMs;
    this.requestId = details.requestId;
    this.#details = details;
  }

  /**
   * Says of one request what went wrong with many.
   *
   * @internal
   */
  forRequest(requestId: string): RecognitionError {
    return new (this.constructor as new (details: ErrorDetails) => RecognitionError)({ ...this.#details, requestId });
  }
}

/** The request is not one that the gateway takes. Mend it; asking again unchanged never helps. */
export class InvalidRequest extends RecognitionError {
  override readonly name = "InvalidRequest";
  constructor(details: ErrorDetails) {
    const where = details.field ? ` at the field ${printable(details.field)}` : "";
    super(`The request is not well formed${where}: mend it before you ask again.`, details);
  }
}

/** This service may not ask that. Have the gateway's administrator look at its registration. */
export class NotPermitted extends RecognitionError {
  override readonly name = "NotPermitted";
  constructor(details: ErrorDetails) {
    super("This service may not ask that: have the gateway's administrator look at its registration.", details);
  }
}

/** The gateway holds no such thing, or it is in no state for what was asked. Look at what it is about. */
export class Refused extends RecognitionError {
  override readonly name = "Refused";
  constructor(details: ErrorDetails) {
    super("The gateway holds no such thing, or not in a state for this: look at what you asked about.", details);
  }
}

/** Too much is asked at one time. Ask again after `retryAfterMs`, and more slowly. */
export class Overloaded extends RecognitionError {
  override readonly name = "Overloaded";
  constructor(details: ErrorDetails) {
    const when = details.retryAfterMs === undefined ? "later" : `in ${Math.ceil(details.retryAfterMs)} ms`;
    super(`Too much is asked at one time: ask again ${when}.`, details);
  }
}

/** The gateway cannot be reached, or could not record a decision. Ask again later; the person is not turned away. */
export class Unavailable extends RecognitionError {
  override readonly name = "Unavailable";
  constructor(details: ErrorDetails) {
    super("The gateway cannot be reached or cannot serve now: ask again later, with the same request id.", details);
  }
}

/** No answer came in time. It may have been decided: ask again with the same `requestId`. */
export class DeadlineExceeded extends RecognitionError {
  override readonly name = "DeadlineExceeded";
  constructor(details: ErrorDetails) {
    super("No answer came in time: ask again, with the same request id.", details);
  }
}

/** Something is wrong in the gateway. Tell its support the request id. */
export class Internal extends RecognitionError {
  override readonly name = "Internal";
  constructor(details: ErrorDetails) {
    super("Something is wrong in the gateway: tell its support this text.", details);
  }
}

/** An answer came that this client cannot read or does not know. It is no answer; tell the gateway's support. */
export class DamagedAnswer extends RecognitionError {
  override readonly name = "DamagedAnswer";
  constructor(details: Pick<ErrorDetails, "description" | "requestId">) {
    const advice = "The answer cannot be relied on: treat it as no answer, and tell the gateway's support.";
    super(advice, { ...details, code: status.DATA_LOSS, reason: "DAMAGED_ANSWER" });
  }
}

/**
 * Refuses a request before it is sent.
 *
 * @internal
 */
export function invalid(field: string, what: string, requestId?: string | undefined): InvalidRequest {
  const description = `${field} ${what}`;
  return new InvalidRequest({
    code: status.INVALID_ARGUMENT,
    reason: "INVALID_REQUEST",
    field,
    description,
    requestId,
  });
}

/** @internal */
export function closedError(requestId?: string | undefined): Unavailable {
  return new Unavailable({
    code: status.UNAVAILABLE,
    advice: "Ask with another client: this client was closed.",
    requestId,
  });
}

/**
 * What was ended by its caller while it was under way.
 *
 * @internal
 */
export function endedError(requestId?: string | undefined): Unavailable {
  return new Unavailable({
    code: status.CANCELLED,
    advice:
      "This was ended before there was an answer, and may have been decided: ask again, with the same request id.",
    requestId,
  });
}

/**
 * Reads a call that failed.
 *
 * @param address where the gateway was looked for.
 * @internal
 */
export function errorOfStatus(
  failed: { readonly code: status; readonly details: string; readonly metadata: Metadata },
  requestId: string | undefined,
  address: string,
): RecognitionError {
  const details = { code: failed.code, description: failed.details, requestId, ...richDetails(failed.metadata) };
  if ((failed.code === status.UNAVAILABLE || failed.code === status.CANCELLED) && !details.reason) {
    // A gateway that cannot serve says why. This one was not reached, or was lost.
    return makeError({
      ...details,
      description: causeOf(failed.details),
      advice:
        "The gateway cannot be reached: ask again later; if it stays so, see that the gateway runs at " +
        `${printable(address)}, and that each side trusts the other's certificate.`,
    });
  }
  return makeError(details);
}

/**
 * Reads why there is no decision on one item of many.
 *
 * @internal
 */
export function errorOfItem(error: VerificationError, requestId: string): RecognitionError {
  return makeError({
    code: ITEM_CODES.has(error.code) ? error.code : status.INTERNAL,
    reason: error.reason,
    description: error.description,
    field: error.field || undefined,
    retryAfterMs: delay(error.retryDelay),
    requestId,
  });
}

/** Those that the contract has for an item. */
const ITEM_CODES: ReadonlySet<number> = new Set([
  status.INVALID_ARGUMENT,
  status.PERMISSION_DENIED,
  status.RESOURCE_EXHAUSTED,
  status.UNAVAILABLE,
]);

/** @internal */
export function milliseconds(duration: Duration | undefined): number | undefined {
  return duration && duration.seconds * 1_000 + duration.nanos / 1_000_000;
}

/**
 * A delay that is none, or is over, says nothing about when to ask again.
 *
 * @internal
 */
export function delay(duration: Duration | undefined): number | undefined {
  const wait = milliseconds(duration);
  return wait !== undefined && wait > 0 ? wait : undefined;
}

/** What somebody else wrote, as it may stand in one line of a log. */
function printable(text: string): string {
  const clean = text.replace(/[\p{C}\s]+/gu, " ").trim();
  const characters = [...clean];
  return characters.length > MAX_SAID ? `${characters.slice(0, MAX_SAID).join("")}…` : clean;
}

/** The innermost cause of what gRPC, Node.js or OpenSSL say of a connection. */
function causeOf(details: string): string {
  const inner = details
    .replace(/^.*?Last error: /s, "")
    .replace(/\.? Resolution note: .*$/s, "")
    .replace(/ \(\d{4}-\d\d-\d\dT[\d:.]+Z\)$/, "")
    .replace(/^(?:\w*Error(?: \[\w+\])?: )+/, "")
    .replace(/^.*?:error:[^:]*:[^:]*:[^:]*:([^:]*).*$/s, "$1");
  const [, code = ""] = /\b(E[A-Z]+)\b/.exec(inner) ?? [];
  return CAUSES[code] ?? CAUSES[inner] ?? inner;
}

const CAUSES: { readonly [said: string]: string | undefined } = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  ETIMEDOUT: "connection timed out",
  EHOSTUNREACH: "no route to host",
  // All that gRPC says where the gateway hangs up after the handshake.
  "Failed to connect": "the gateway hung up; it may not know this service's certificate",
};

function makeError(details: ErrorDetails): RecognitionError {
  switch (details.code) {
    case status.INVALID_ARGUMENT:
    case status.OUT_OF_RANGE:
      return new InvalidRequest(details);
    case status.PERMISSION_DENIED:
    case status.UNAUTHENTICATED:
      return new NotPermitted(details);
    case status.NOT_FOUND:
    case status.ALREADY_EXISTS:
    case status.ABORTED:
    case status.FAILED_PRECONDITION:
      return new Refused(details);
    case status.RESOURCE_EXHAUSTED:
      return new Overloaded(details);
    case status.UNAVAILABLE:
    case status.CANCELLED: // not by us: whoever cancels a call of this client gets what they cancelled it with
      return new Unavailable(details);
    case status.DEADLINE_EXCEEDED:
      return new DeadlineExceeded(details);
    default:
      return new Internal(details);
  }
}

/** What cannot be read of the details is left out: the status code alone says which error it is. */
function richDetails(metadata: Metadata): Partial<ErrorDetails> {
  const [packed] = metadata.get("grpc-status-details-bin");
  const found: { -readonly [Each in keyof ErrorDetails]?: ErrorDetails[Each] } = {};
  if (!(packed instanceof Buffer)) {
    return found;
  }
  try {
    for (const { typeUrl, value } of Status.decode(packed).details) {
      switch (typeUrl) {
        case "type.googleapis.com/google.rpc.ErrorInfo": {
          const info = ErrorInfo.decode(value);
          if (info.domain === ERROR_DOMAIN) {
            found.reason = info.reason;
          }
          break;
        }
        case "type.googleapis.com/google.rpc.BadRequest":
          found.field = BadRequest.decode(value).fieldViolations[0]?.field;
          break;
        case "type.googleapis.com/google.rpc.RetryInfo":
          found.retryAfterMs = delay(RetryInfo.decode(value).retryDelay);
          break;
      }
    }
  } catch {
    return {};
  }
  return found;
}
