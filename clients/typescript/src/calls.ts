/** One call: a deadline for all its tries, cancellation, and waiting where the gateway asks for it. */

import { type Client, Metadata, type ServiceError } from "@grpc/grpc-js";
import type { Connections } from "./connections.js";
import { closedError, DamagedAnswer, errorOfStatus, Overloaded } from "./errors.js";

const MAX_TRIES = 3;
const MAX_JITTER = 0.2;
/** How long to wait where the gateway does not say it. */
const UNSAID_WAIT_MS = 100;

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
  /** It is not asked a second time, whatever the gateway says. */
  readonly isOnce?: boolean;
}

/**
 * Makes a call, and makes it again when the gateway asks to wait and there is time for it. What may be tried again after
 * a connection failed, gRPC tries again by itself (service-config.json).
 *
 * @param message the request as bytes.
 */
export async function callUnary<Answer>(
  connections: Connections,
  method: Method<never, Answer>,
  message: Buffer,
  { deadlineMs, signal, requestId, isOnce = false }: Call,
): Promise<Answer> {
  const deadline = Date.now() + deadlineMs;
  const throwIfEnded = () => {
    signal?.throwIfAborted();
    if (connections.isClosed) {
      throw closedError(requestId);
    }
  };
  for (let tries = 1; ; tries++) {
    throwIfEnded();
    const connection = connections.current();
    const release = connection.hold();
    try {
      const bytes = await once(connections, connection.client, method.path, message, deadline, signal);
      return decode(method, bytes, requestId);
    } catch (failed) {
      if (!isServiceError(failed)) {
        throw failed;
      }
      throwIfEnded();
      const error = errorOfStatus(failed, requestId, connections.address);
      const wait =
        error instanceof Overloaded && !isOnce && tries < MAX_TRIES ? waitOf(error) : Number.POSITIVE_INFINITY;
      if (Date.now() + wait >= deadline) {
        throw error;
      }
      await pause(connections, wait, signal);
    } finally {
      release();
    }
  }
}

/**
 * How long to wait before asking again: a little longer than was asked for, so that callers who were sent away together
 * do not come back together.
 */
export function waitOf({ retryAfterMs = UNSAID_WAIT_MS }: Overloaded): number {
  return retryAfterMs * (1 + Math.random() * MAX_JITTER);
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
    throw new DamagedAnswer({ description: "it cannot be read", requestId });
  }
}

function once(
  connections: Connections,
  client: Client,
  path: string,
  message: Buffer,
  deadline: number,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const cancel = () => call.cancel();
    const call = client.makeUnaryRequest(
      path,
      (bytes: Buffer) => bytes,
      (bytes) => bytes,
      message,
      new Metadata(),
      { deadline },
      (error, bytes) => {
        ignore();
        if (error) {
          reject(error);
        } else {
          resolve(bytes as Buffer); // gRPC gives one or the other
        }
      },
    );
    const ignore = onEnd(connections, signal, cancel);
  });
}

/** Waits; less if the caller or the client ends it. */
function pause(connections: Connections, milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      ignore();
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    const ignore = onEnd(connections, signal, done);
  });
}

/** Has `end` called when the caller or the client ends what is under way; the function returned calls that off. */
function onEnd(connections: Connections, signal: AbortSignal | undefined, end: () => void): () => void {
  const ignore = connections.onClose(end);
  signal?.addEventListener("abort", end, { once: true });
  return () => {
    ignore();
    signal?.removeEventListener("abort", end);
  };
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "details" in error && "metadata" in error;
}
