/** The contract as generated code: messages, and the stubs of `@grpc/grpc-js`. */

export * as audit from "./gen/recognition/v1/audit.js";
export * as reason from "./gen/recognition/v1/reason.js";
export * as verification from "./gen/recognition/v1/verification.js";
