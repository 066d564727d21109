/** The contract as generated code: messages, and the stubs of `@grpc/grpc-js`. */

/** What gRPC errors bring along in `grpc-status-details-bin`. */
export * as errorDetails from "./gen/google/rpc/error_details.js";
export * as rpcStatus from "./gen/google/rpc/status.js";
export * as audit from "./gen/recognition/v1/audit.js";
export * as reason from "./gen/recognition/v1/reason.js";
export * as verification from "./gen/recognition/v1/verification.js";
