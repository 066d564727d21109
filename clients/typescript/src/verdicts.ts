/** What a gateway answers, and that it is what it must be. */

import { DamagedAnswer, delay, errorOfItem, milliseconds, type RecognitionError } from "./errors.js";
import {
  type Acceptance,
  type CreateChallengeResponse,
  PredicateAnswer,
  type RecordConsentResponse,
  SubjectType as SubjectTypeNumber,
  type VerificationError,
  type VerifyCredentialResponse,
  type WithdrawConsentResponse,
} from "./gen/recognition/v1/verification.js";
import { type NextStep, nextStepOf, type Reason, reasonOf } from "./reasons.js";

/**
 * What a holder's app needs to make one presentation. Hand nonce and audience on unchanged, by name: neither
 * `console.log` nor `JSON.stringify` nor `{...challenge}` has the nonce, so that it ends up in no log by accident.
 */
export interface Challenge {
  /** Kept for `VerifyRequest.nonce`. */
  readonly nonce: string;
  /** Who the presentation is for: this service, by the name that the gateway knows it under. */
  readonly audience: string;
  /** When the challenge lapses. */
  readonly expiresAt: Date;
}

/** A consent on record. */
export interface Consent {
  /** Its reference, for `VerifyRequest.consentId`. Keep it with the signed document. `console.log` does not show it. */
  readonly consentId: string;
  /** When it lapses. */
  readonly expiresAt: Date;
}

// -- what was decided -------------------------------------------------------------------------------------------------

/** A gateway's decision. It is on record there, whatever the verdict. */
export interface Decision {
  readonly kind: "decision";
  /** Look at its `kind`. A decision is not a "yes", and `if (decision)` is always true. */
  readonly verdict: Verdict;
  /** Names the decision; keep it with the case. Act once on each. */
  readonly verificationId: string;
  /**
   * This acceptance was given before, to the same question under the same request id: its answer may have been lost, or
   * acted on. Look whether `verificationId` has been acted on.
   */
  readonly repeated: boolean;
  /** When it was decided. */
  readonly decidedAt: Date;
  /** What to do now, whatever the verdict; `nextStepText` has the words. */
  readonly nextStep: NextStep;
  /** The signed receipt, if one was asked for: compact JWS. */
  readonly receipt: string | undefined;
  /** The trust data that it rests on. */
  readonly trustBasis: TrustBasis | undefined;
  /** The status data that it rests on; undefined: no status was looked at. */
  readonly statusBasis: StatusBasis | undefined;
  /** The request's reference in the gateway's log. */
  readonly requestId: string;
}

/**
 * There is no decision that was heard of, and why. Never to be treated as one. Where no answer came, it may have been
 * decided all the same: ask again under the same request id.
 */
export interface Failure {
  readonly kind: "failure";
  readonly error: RecognitionError;
  /** The request's reference. */
  readonly requestId: string;
}

/** What became of one of many requests. */
export type Outcome = Decision | Failure;

/**
 * Exactly one of three. Tell them apart by `kind`, and let the compiler see that all three are dealt with:
 *
 * ```ts
 * switch (verdict.kind) {
 *   case "accepted": return proceed(verdict.attributes);
 *   case "rejected": return refuse(verdict.reason);
 *   case "indeterminate": return askAgain(verdict.retryAfterMs);
 *   default: return verdict satisfies never;
 * }
 * ```
 */
export type Verdict = Accepted | Rejected | Indeterminate;

/**
 * The credential is accepted for this matter.
 *
 * What tells of the person (`subject`, `attributes`, `actor` and so on) is there to be read by name only: neither
 * `console.log` nor `JSON.stringify` nor `{...accepted}` shows it, so that it ends up in no log by accident.
 */
export interface Accepted {
  readonly kind: "accepted";
  /** A pseudonym of the person: stable for this service's sector, useless to any other. */
  readonly subject: string;
  /** The pseudonym by the key version before, while records are moved from one to the next. */
  readonly previousSubject: string | undefined;
  /** The attributes that the matter may have, and no others. To be erased at `eraseAt`. */
  readonly attributes: Readonly<Record<string, unknown>>;
  /** Who acts for the subject and presented this. Undefined: the subject itself. Never to be taken for the subject. */
  readonly actor: Actor | undefined;
  /** Whether each predicate holds, in the order of the questions. */
  readonly predicateAnswers: readonly boolean[];
  /** Where the household is registered at present, if the matter may know. */
  readonly householdProvince: string | undefined;
  /** Whether the subject is a person or an organisation; `unrecognised`: something newer than this client. */
  readonly subjectType: "natural" | "legal" | "unrecognised";
  /** Entity identifier of the issuer. */
  readonly issuer: string;
  /** Province code of the issuer: sh, js, zj or ah. */
  readonly issuingProvince: string;
  /** Type of the credential (vct), or the assertion type. */
  readonly credentialType: string;
  /** How surely the person was identified and authenticated. */
  readonly assurance: Assurance;
  /** When the issuer signed it. */
  readonly issuedAt: Date | undefined;
  /** When the person was last authenticated by the issuer. */
  readonly authenticatedAt: Date | undefined;
  /** When the credential expires. */
  readonly expiresAt: Date | undefined;
  /** Time since the issuer signed it, in milliseconds. */
  readonly credentialAgeMs: number | undefined;
  /** Time since the person was last authenticated, in milliseconds. */
  readonly authenticationAgeMs: number | undefined;
  /** Whether the presenter proved possession of the holder's key. Never so for an assertion. */
  readonly holderBound: boolean;
  /** Until when the attributes may be kept. */
  readonly eraseAt: Date;
  /** What the law rests this on. */
  readonly legalBasis: string;
}

/** Not accepted; asking again with the same presentation gives the same answer. */
export interface Rejected {
  readonly kind: "rejected";
  /** The one reason; `reasonText` has the words. */
  readonly reason: Reason;
  /** Its number in the contract, for a reason that this client does not know. */
  readonly reasonNumber: number;
}

/** The gateway cannot tell now. The person is not to be turned away: ask again later. */
export interface Indeterminate {
  readonly kind: "indeterminate";
  /** The one reason; `reasonText` has the words. */
  readonly reason: Reason;
  /** Its number in the contract, for a reason that this client does not know. */
  readonly reasonNumber: number;
  /** When asking again may help: milliseconds from now. */
  readonly retryAfterMs: number | undefined;
}

/** Somebody who acts for the subject. */
export interface Actor {
  /** A pseudonym of that person. */
  readonly subject: string;
  /** The pseudonym by the key version before, while records are moved. */
  readonly previousSubject: string | undefined;
  /** guardian, agent, lawyer or legal_representative. */
  readonly relationship: string;
  /** That person's attributes which the matter may have, and no others. */
  readonly attributes: Readonly<Record<string, unknown>>;
}

/** Three independent levels, 1 to 3 each, and what they come to. */
export interface Assurance {
  /** How surely it is this person. */
  readonly identity: number;
  /** How strong the log-in was. */
  readonly authenticator: number;
  /** How well the hand-over is protected. */
  readonly federation: number;
  /** The issuer's own name for the level. */
  readonly acr: string;
  /** The overall level by the agreement's scale, 1 and up; 0: below the lowest. */
  readonly level: number;
}

/** Which trust data a decision rests on. */
export interface TrustBasis {
  /** Version of the charter. */
  readonly charterVersion: number;
  /** Identifier of the trust view. */
  readonly viewId: string;
  /** Time since a quorum of anchors last confirmed it, in milliseconds. */
  readonly ageMs: number | undefined;
  /** It is past its freshness and served within the grace that the agreement allows. */
  readonly stale: boolean;
}

/** Which status data a decision rests on. */
export interface StatusBasis {
  /** The status list. */
  readonly list: string;
  /** When the issuer signed it. */
  readonly issuedAt: Date | undefined;
  /** Time since then, in milliseconds. */
  readonly ageMs: number | undefined;
}

// -- from messages ----------------------------------------------------------------------------------------------------

/** @internal */
export function challengeOf({ nonce, audience, expireTime }: CreateChallengeResponse): Challenge {
  const whole = new Whole("a challenge");
  const expiresAt = whole.time("expiry", expireTime);
  return unlisted({ audience: whole.text("audience", audience), expiresAt }, { nonce: whole.text("nonce", nonce) });
}

/** @internal */
export function consentOf({ consentId, expireTime }: RecordConsentResponse): Consent {
  const whole = new Whole("a consent");
  const expiresAt = whole.time("expiry", expireTime);
  const id = whole.text("id", consentId);
  return {
    get consentId() {
      return id; // What prints an object prints no getter's value.
    },
    expiresAt,
  };
}

/** @internal */
export function withdrawalOf({ withdrawTime }: WithdrawConsentResponse): Date {
  return new Whole("a withdrawal").time("time", withdrawTime);
}

/**
 * Whether an answer has what it must have. In the contract's encoding whatever is lost reads as empty, and an acceptance
 * of nobody by nobody would be an acceptance still.
 *
 * @internal
 */
export class Whole {
  readonly #what: string;
  readonly #requestId: string | undefined;

  constructor(what: string, requestId?: string) {
    this.#what = what;
    this.#requestId = requestId;
  }

  text(part: string, text: string): string {
    return text || this.#damaged(`without ${part}`);
  }

  time(part: string, time: Date | undefined): Date {
    return this.timeIfAny(part, time) ?? this.#damaged(`without ${part}`);
  }

  /** A time between the years 1 and 9999, where there is one: that is what the contract has. */
  timeIfAny(part: string, time: Date | undefined): Date | undefined {
    // What is no time at all compares with nothing.
    return time === undefined || (time >= FIRST_TIME && time <= LAST_TIME)
      ? time
      : this.#damaged(`whose ${part} is out of range`);
  }

  assurance(assurance: Assurance | undefined): Assurance {
    const { identity, authenticator, federation, acr, level } = assurance ?? this.#damaged("without assurance");
    if (identity < 1 || authenticator < 1 || federation < 1 || level < 0) {
      this.#damaged("whose assurance has levels that are none");
    }
    return { identity, authenticator, federation, acr, level };
  }

  #damaged(how: string): never {
    throw new DamagedAnswer({ description: `${this.#what} ${how}`, requestId: this.#requestId });
  }
}

const FIRST_TIME = new Date("0001-01-01T00:00:00Z");
const LAST_TIME = new Date("9999-12-31T23:59:59.999Z");

/**
 * Reads a decision, and refuses whatever is not certainly one.
 *
 * @param questions how many answers an acceptance must have: with one missing, the others would answer another question.
 * @internal
 */
export function decisionOf(message: VerifyCredentialResponse, requestId: string, questions: number): Decision {
  const { trustBasis: trust, statusBasis: status } = message;
  const whole = new Whole("a decision", requestId);
  return {
    kind: "decision",
    verdict: verdictOf(message, requestId, questions),
    verificationId: whole.text("id", message.verificationId),
    decidedAt: whole.time("time", message.verifyTime),
    repeated: message.repeated,
    nextStep: nextStepOf(message.nextStep),
    receipt: message.receipt || undefined,
    trustBasis: trust && {
      charterVersion: trust.charterVersion,
      viewId: trust.viewId,
      ageMs: milliseconds(trust.age),
      stale: trust.stale,
    },
    statusBasis: status && {
      list: status.list,
      issuedAt: whole.timeIfAny("status time", status.issueTime),
      ageMs: milliseconds(status.age),
    },
    requestId,
  };
}

/**
 * Reads what became of one of many.
 *
 * @internal
 */
export function outcomeOf(
  result:
    | { readonly $case: "response"; readonly value: VerifyCredentialResponse }
    | { readonly $case: "error"; readonly value: VerificationError }
    | undefined,
  requestId: string,
  questions: number,
): Outcome {
  switch (result?.$case) {
    case "response":
      try {
        return decisionOf(result.value, requestId, questions);
      } catch (error) {
        if (error instanceof DamagedAnswer) {
          return failureOf(error, requestId);
        }
        throw error;
      }
    case "error":
      return failureOf(errorOfItem(result.value, requestId), requestId);
    default:
      return failureOf(new DamagedAnswer({ description: "neither decision nor error", requestId }), requestId);
  }
}

/** @internal */
export function failureOf(error: RecognitionError, requestId: string): Failure {
  return { kind: "failure", error, requestId };
}

function verdictOf({ verdict }: VerifyCredentialResponse, requestId: string, questions: number): Verdict {
  switch (verdict?.$case) {
    case "accepted":
      return acceptedOf(verdict.value, requestId, questions);
    case "rejected": {
      const number = verdict.value.reason;
      return { kind: "rejected", reason: reasonOf(number), reasonNumber: number };
    }
    case "indeterminate": {
      const { reason: number, retryAfter } = verdict.value;
      const retryAfterMs = delay(retryAfter);
      return { kind: "indeterminate", reason: reasonOf(number), reasonNumber: number, retryAfterMs };
    }
    default:
      throw new DamagedAnswer({ description: "no verdict, or one that this client does not know", requestId });
  }
}

function acceptedOf(message: Acceptance, requestId: string, questions: number): Accepted {
  const answers = message.predicateAnswers.map((answer) => {
    if (answer !== PredicateAnswer.YES && answer !== PredicateAnswer.NO) {
      throw new DamagedAnswer({ description: "a predicate without an answer", requestId });
    }
    return answer === PredicateAnswer.YES;
  });
  if (answers.length !== questions) {
    throw new DamagedAnswer({ description: "not as many answers as predicates", requestId });
  }
  const { actor } = message;
  const whole = new Whole("an acceptance", requestId);
  return unlisted(
    {
      kind: "accepted" as const,
      subjectType: SUBJECT_TYPES[message.subjectType] ?? ("unrecognised" as const),
      issuer: whole.text("issuer", message.issuer),
      issuingProvince: message.issuingProvince,
      credentialType: whole.text("credential type", message.credentialType),
      assurance: whole.assurance(message.assurance),
      issuedAt: whole.timeIfAny("time of issue", message.issueTime),
      authenticatedAt: whole.timeIfAny("time of authentication", message.authenticationTime),
      expiresAt: whole.timeIfAny("expiry", message.expireTime),
      credentialAgeMs: milliseconds(message.credentialAge),
      authenticationAgeMs: milliseconds(message.authenticationAge),
      holderBound: message.holderBound,
      eraseAt: whole.time("time of erasure", message.eraseTime),
      legalBasis: message.legalBasis,
    },
    {
      subject: whole.text("subject", message.subject),
      previousSubject: message.previousSubject || undefined,
      attributes: message.attributes ?? {},
      actor:
        actor &&
        unlisted(
          { relationship: actor.relationship },
          {
            subject: whole.text("actor's subject", actor.subject),
            previousSubject: actor.previousSubject || undefined,
            attributes: actor.attributes ?? {},
          },
        ),
      predicateAnswers: answers,
      householdProvince: message.householdProvince || undefined,
    },
  );
}

const SUBJECT_TYPES: { readonly [number: number]: "natural" | "legal" } = {
  [SubjectTypeNumber.NATURAL]: "natural",
  [SubjectTypeNumber.LEGAL]: "legal",
};

/** Adds properties that are there by name only: a debugger's view of hidden properties has names and no values. */
function unlisted<Listed extends object, Unlisted extends object>(target: Listed, added: Unlisted): Listed & Unlisted {
  for (const [name, value] of Object.entries(added)) {
    Object.defineProperty(target, name, { get: () => value, enumerable: false });
  }
  return target as Listed & Unlisted;
}
