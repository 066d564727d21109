/** Client of the mutual-recognition gateway: may what a person presented be relied on for this matter? */

export {
  type CallOptions,
  type ExplainedStep,
  type Explanation,
  type Options,
  RecognitionClient,
} from "./client.js";
export {
  DamagedAnswer,
  DeadlineExceeded,
  type ErrorDetails,
  Internal,
  InvalidRequest,
  NotPermitted,
  Overloaded,
  RecognitionError,
  Refused,
  Unavailable,
} from "./errors.js";
export { Profile } from "./profile.js";
export { type Language, NextStep, nextStepText, Reason, type ReasonText, reasonText } from "./reasons.js";
export type { Predicate, VerifyRequest } from "./requests.js";
export type { Streamed } from "./stream.js";
export type {
  Accepted,
  Actor,
  Assurance,
  Challenge,
  Consent,
  Decision,
  Failure,
  Indeterminate,
  Outcome,
  Rejected,
  StatusBasis,
  TrustBasis,
  Verdict,
} from "./verdicts.js";
