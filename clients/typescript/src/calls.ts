/** One call: a deadline for all its tries, cancellation, and waiting where the gateway asks for it. */

import { setTimeout as sleep } from "node:timers/promises";
import { type Client, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import type { Connections } from "./connections.js";
import { DamagedAnswer, errorOfStatus, InvalidRequest, Overloaded } from "./errors.js";

const MAX_TRIES = 3;
const MAX_JITTER = 0.2;

/** What a generated stub says of a method. */
export interface Method<Request, Answer> {
  readonly path: string;
  readonly requestSerialize: (request: Request) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Answer;
}

/** How a call is made. */
export interface Call {
  readonly deadlineMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly requestId?: string | undefined;
}

/**
 * Makes a call, and makes it again when the gateway asks to wait and there is time for it. What may be tried again after
 * a connection failed, gRPC tries again by itself (service-config.json).
 */
export async function callUnary<Request, Answer>(
  connections: Connections,
  method: Method<Request, Answer>,
  request: Request,
  { deadlineMs, signal, requestId }: Call,
): Promise<Answer> {
  const message = encode(method, request, requestId);
  const deadline = Date.now() + deadlineMs;
  for (let tries = 1; ; tries++) {
    signal?.throwIfAborted();
    const connection = connections.current();
    const release = connection.hold();
    try {
      const bytes = await once(connection.client, method.path, message, deadline, signal);
      return decode(method, bytes, requestId);
    } catch (failed) {
      signal?.throwIfAborted();
      if (!isServiceError(failed)) {
        throw failed;
      }
      const error = errorOfStatus(failed, requestId);
      const wait = error instanceof Overloaded && tries < MAX_TRIES ? withJitter(error.retryAfterMs) : undefined;
      if (wait === undefined || Date.now() + wait >= deadline) {
        throw error;
      }
      await pause(wait, signal);
    } finally {
      release();
    }
  }
}

/** Waits a little longer than was asked for, so that callers who were sent away together do not come back together. */
export function withJitter(retryAfterMs: number | undefined): number | undefined {
  return retryAfterMs && retryAfterMs * (1 + Math.random() * MAX_JITTER);
}

/** Writes a request; what cannot be written, as an age of 17.5 years, is no request. */
export function encode<Request>(
  method: { readonly requestSerialize: (request: Request) => Buffer },
  request: Request,
  requestId: string | undefined,
): Buffer {
  try {
    return method.requestSerialize(request);
  } catch {
    throw new InvalidRequest({
      code: status.INVALID_ARGUMENT,
      description: "a value is not one it can have",
      requestId,
    });
  }
}

/** Reads an answer; one that is no such message is no answer. */
export function decode<Answer>(
  method: { readonly responseDeserialize: (bytes: Buffer) => Answer },
  bytes: Buffer,
  requestId: string | undefined,
): Answer {
  try {
    return method.responseDeserialize(bytes);
  } catch {
    throw new DamagedAnswer("it cannot be read", requestId);
  }
}

function once(
  client: Client,
  path: string,
  message: Buffer,
  deadline: number,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const abort = () => call.cancel();
    const call = client.makeUnaryRequest(
      path,
      (bytes: Buffer) => bytes,
      (bytes) => bytes,
      message,
      new Metadata(),
      { deadline },
      (error, bytes) => {
        signal?.removeEventListener("abort", abort);
        if (error) {
          reject(error);
        } else {
          resolve(bytes as Buffer); // gRPC gives one or the other
        }
      },
    );
    signal?.addEventListener("abort", abort, { once: true });
  });
}

async function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(milliseconds, undefined, signal && { signal });
  } finally {
    signal?.throwIfAborted();
  }
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "details" in error && "metadata" in error;
}
