/** Client of the mutual-recognition gateway: may what a person presented be relied on for this matter? */

export {
  type CallOptions,
  type Consent,
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
export type { Streamed } from "./stream.js";
export type {
  Accepted,
  Actor,
  Assurance,
  Challenge,
  Decision,
  Failure,
  Indeterminate,
  Predicate,
  Rejected,
  Result,
  StatusBasis,
  TrustBasis,
  Verdict,
  VerifyRequest,
} from "./verdicts.js";
