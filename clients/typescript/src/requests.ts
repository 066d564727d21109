/**
 * What is asked, and that it can be sent: what a program got wrong is told before anything goes to the gateway, where it
 * would be put on record as something that a person presented.
 */

import { randomBytes } from "node:crypto";
import { invalid } from "./errors.js";
import {
  type Predicate as PredicateMessage,
  VerificationServiceService,
  type VerifyCredentialRequest,
} from "./gen/recognition/v1/verification.js";

/** The largest request that a gateway takes. */
const MAX_REQUEST_BYTES = 256 * 1024;
const MAX_INT32 = 2 ** 31 - 1;

/** A question that is answered yes or no, without the attribute behind it. One question each: two are two predicates. */
export type Predicate =
  /** Is the person at least so many years old today? 1 to 150. */
  | { readonly ageAtLeast: number; readonly householdIn?: never; readonly claimMatches?: never }
  /** Is the household registered in one of these provinces? sh, js, zj, ah. */
  | { readonly ageAtLeast?: never; readonly householdIn: readonly string[]; readonly claimMatches?: never }
  /** Is this attribute exactly this? */
  | {
      readonly ageAtLeast?: never;
      readonly householdIn?: never;
      readonly claimMatches: { readonly claim: string; readonly value: string };
    };

/** Asks for a verdict. */
export interface VerifyRequest {
  /** Code of the matter that the answer is for. This service must be registered for it. */
  readonly matter: string;
  /** What the person handed over: a credential with its proof, or an identity assertion. At most 64 KiB. */
  readonly presentation: string;
  /** The nonce of the challenge that it answers. Needed for a credential; absent for an assertion. */
  readonly nonce?: string | undefined;
  /**
   * This service's own reference, 1 to 64 characters of `A-Z a-z 0-9 . _ -`; it is written to the gateway's log, and
   * must say nothing about the person. Without one the client makes a random one: that is right for nearly everybody. To
   * ask once more what may have been decided already, give the same one with the same request, within a minute.
   *
   * Whoever asks the same under the same id gets the same acceptance. So one of your own must be random, made for this
   * question and kept for its tries: never the number of a case, nor anything that whoever presents can guess or bring.
   */
  readonly requestId?: string | undefined;
  /** The consent that it rests on, where the matter rests on consent. */
  readonly consentId?: string | undefined;
  /** Questions; at most 8, and only such as the matter allows. */
  readonly predicates?: readonly Predicate[] | undefined;
  /** Name of the counter, terminal or operator that asks; likewise written to the log. */
  readonly terminal?: string | undefined;
  /** Whether the gateway is to sign a receipt of the decision. */
  readonly wantReceipt?: boolean | undefined;
}

/**
 * Gives the reference that a request has, or a new one.
 *
 * @internal
 */
export function requestIdOf(request: VerifyRequest): string {
  const given: unknown = request?.requestId;
  return typeof given === "string" && given !== "" && given.isWellFormed() ? given : newRequestId();
}

/**
 * Writes a request.
 *
 * @throws InvalidRequest if it cannot be sent. Types are checked although the compiler does, since not everybody has one.
 * @internal
 */
export function toMessage(
  request: VerifyRequest,
  requestId: string,
): { message: VerifyCredentialRequest; bytes: Buffer } {
  if (!isObject(request)) {
    throw invalid("request", "is not an object", requestId);
  }
  const check = new Check(requestId);
  check.optionalText("request_id", request.requestId);
  const message = {
    matter: check.text("matter", request.matter),
    presentation: check.text("presentation", request.presentation),
    nonce: check.optionalText("nonce", request.nonce),
    requestId,
    consentId: check.optionalText("consent_id", request.consentId),
    predicates: request.predicates === undefined ? [] : check.predicates(request.predicates),
    terminal: check.optionalText("terminal", request.terminal),
    wantReceipt: request.wantReceipt === undefined ? false : check.flag("want_receipt", request.wantReceipt),
  };
  const bytes = VerificationServiceService.verifyCredential.requestSerialize(message);
  if (bytes.length > MAX_REQUEST_BYTES) {
    throw invalid(
      "presentation",
      "makes the request larger than 256 KiB; a presentation has 64 KiB at most",
      requestId,
    );
  }
  return { message, bytes };
}

/**
 * Checks the values of one request; errors tell the field by its name in the contract, as the gateway does, and never
 * the value.
 *
 * @internal
 */
export class Check {
  readonly #requestId: string | undefined;

  constructor(requestId?: string) {
    this.#requestId = requestId;
  }

  /** Text that must be there. */
  text(field: string, value: unknown): string {
    const text = this.#string(field, value);
    if (text === "") {
      throw invalid(field, "is empty", this.#requestId);
    }
    return text;
  }

  /** Text that may be absent. */
  optionalText(field: string, value: unknown): string {
    return value === undefined ? "" : this.#string(field, value);
  }

  texts(field: string, values: unknown): string[] {
    return this.#array(field, values).map((each, index) => this.text(`${field}[${index}]`, each));
  }

  flag(field: string, value: unknown): boolean {
    if (typeof value !== "boolean") {
      throw invalid(field, "is not a boolean", this.#requestId);
    }
    return value;
  }

  /** A number of milliseconds that a timer and the contract can hold. */
  milliseconds(field: string, value: unknown, most: number): number {
    if (typeof value !== "number" || !(value > 0 && value <= most)) {
      throw invalid(field, `is not a number of milliseconds above 0 and up to ${most}`, this.#requestId);
    }
    return value;
  }

  predicates(values: unknown): PredicateMessage[] {
    return this.#array("predicates", values).map((each, index) => this.#predicate(`predicates[${index}]`, each));
  }

  #predicate(field: string, predicate: unknown): PredicateMessage {
    const asked = isObject(predicate) ? Object.entries(predicate).filter(([, value]) => value !== undefined) : [];
    const [kind, value] = asked.length === 1 && asked[0] !== undefined ? asked[0] : [undefined, undefined];
    switch (kind) {
      case "ageAtLeast":
        if (typeof value !== "number" || !Number.isInteger(value) || Math.abs(value) > MAX_INT32) {
          throw invalid(`${field}.age_at_least`, "is not a whole number of years", this.#requestId);
        }
        return { question: { $case: kind, value } };
      case "householdIn":
        return { question: { $case: kind, value: { provinces: this.texts(`${field}.household_in`, value) } } };
      case "claimMatches": {
        if (!isObject(value)) {
          throw invalid(`${field}.claim_matches`, "is not an object", this.#requestId);
        }
        const claim = this.text(`${field}.claim_matches.claim`, value.claim);
        return {
          question: { $case: kind, value: { claim, value: this.#string(`${field}.claim_matches.value`, value.value) } },
        };
      }
      default:
        throw invalid(field, "is not exactly one of ageAtLeast, householdIn and claimMatches", this.#requestId);
    }
  }

  #array(field: string, values: unknown): unknown[] {
    if (!Array.isArray(values)) {
      throw invalid(field, "is not an array", this.#requestId);
    }
    return [...values]; // without holes
  }

  #string(field: string, value: unknown): string {
    if (typeof value !== "string") {
      throw invalid(field, value === undefined ? "is missing" : "is not a string", this.#requestId);
    }
    if (!value.isWellFormed()) {
      throw invalid(field, "has half of a surrogate pair, which is no text", this.#requestId);
    }
    return value;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

/** 128 random bits. A leading "-" would look like an option to tools that are given one. */
function newRequestId(): string {
  return randomBytes(16).toString("base64url").replace(/^-/, "A");
}
