/**
 * Verification as a stream: requests are read as results are taken.
 *
 * One loop gives results out. A reader fills it from the source as long as few enough requests are under way, that is
 * read and their results not taken. What is on its way to the gateway is in `waiting` until its answer comes, so a stream
 * that ends loses nothing: the next one sends it again. Answers are read at once, since the gateway cuts off whoever does
 * not read them; they have room, because there is one for each request under way at most.
 */

import { type ClientDuplexStream, Metadata, type StatusObject, status } from "@grpc/grpc-js";
import { type Call, decode, encode, withJitter } from "./calls.js";
import type { Connections } from "./connections.js";
import {
  DeadlineExceeded,
  errorOfItem,
  errorOfStatus,
  InvalidRequest,
  Overloaded,
  type RecognitionError,
} from "./errors.js";
import {
  type StreamResult,
  type StreamVerifyCredentialsRequest,
  VerificationServiceService,
  type VerifyCredentialRequest,
} from "./gen/recognition/v1/verification.js";
import { failureOf, type Result, resultOf, toMessage, type VerifyRequest } from "./verdicts.js";

const METHOD = VerificationServiceService.streamVerifyCredentials;
const MAX_UNDER_WAY = 256;
/** How many requests one message holds: the gateway serves so many best. */
const ITEMS_PER_MESSAGE = 16;
/** A message may have a mebibyte; the rest is room for the names of items. */
const MAX_MESSAGE_BYTES = 1_000_000;
const MAX_TRIES = 3;
const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 2_000;

/** What became of one request of a stream. */
export interface Streamed {
  /** Its position in what was streamed, from 0. */
  readonly index: number;
  readonly result: Result;
}

interface Item {
  readonly index: number;
  readonly message: VerifyCredentialRequest;
  readonly bytes: number;
  tries: number;
}

type Duplex = ClientDuplexStream<StreamVerifyCredentialsRequest, Buffer>;

/** Streams `source` through the gateway; see `RecognitionClient.stream`. */
export async function* streamResults(
  connections: Connections,
  source: Iterable<VerifyRequest> | AsyncIterable<VerifyRequest>,
  call: Call,
  newRequestId: () => string,
): AsyncGenerator<Streamed, void, undefined> {
  call.signal?.throwIfAborted();
  const exchange = new Exchange(connections, source, call, newRequestId);
  const abort = () => exchange.wake();
  call.signal?.addEventListener("abort", abort, { once: true });
  try {
    for (;;) {
      call.signal?.throwIfAborted();
      const next = exchange.take();
      if (next !== undefined) {
        yield next;
      } else if (exchange.isOver()) {
        return;
      } else {
        await exchange.change();
      }
    }
  } finally {
    call.signal?.removeEventListener("abort", abort);
    exchange.close();
  }
}

class Exchange {
  readonly #connections: Connections;
  readonly #requests: Iterator<VerifyRequest> | AsyncIterator<VerifyRequest>;
  readonly #newRequestId: () => string;
  readonly #waitMs: number;

  /** Read, and without an answer; by the name that they have on the stream. */
  readonly #waiting = new Map<string, Item>();
  /** Those of them that are yet to be sent, or to be sent again. */
  #unsent: Item[] = [];
  /** Answered, and not taken. */
  readonly #answered: Streamed[] = [];
  #read = 0;
  #reading = false;
  #isRead = false;
  #sourceError: { readonly error: unknown } | undefined;

  #duplex: Duplex | undefined;
  #fatal: { readonly error: unknown } | undefined;
  /** Why the last stream ended, until there is an answer again. */
  #lastError: RecognitionError | undefined;
  #overloads = 0;
  #backoffMs = FIRST_BACKOFF_MS;
  /** Nothing is sent until it has run out: the gateway asked to wait, or could not be reached. */
  #pause: NodeJS.Timeout | undefined;
  /** Runs while answers are waited for. */
  #patience: NodeJS.Timeout | undefined;
  #closed = false;
  #wake: () => void = () => {};

  constructor(
    connections: Connections,
    source: Iterable<VerifyRequest> | AsyncIterable<VerifyRequest>,
    call: Call,
    newRequestId: () => string,
  ) {
    this.#connections = connections;
    this.#requests = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
    this.#newRequestId = newRequestId;
    this.#waitMs = call.deadlineMs;
  }

  /** Gives a result if there is one, and has more requests read if there is room for a message of them. */
  take(): Streamed | undefined {
    const next = this.#answered.shift();
    if (!this.#reading && !this.#isRead && this.#room() >= ITEMS_PER_MESSAGE) {
      void this.#fill();
    }
    return next;
  }

  /**
   * Whether every request has been read and every result taken.
   *
   * @throws what went wrong, once no result is left to be taken.
   */
  isOver(): boolean {
    if (this.#fatal !== undefined) {
      throw this.#fatal.error;
    }
    if (!this.#isRead || this.#waiting.size > 0) {
      return false;
    }
    if (this.#sourceError !== undefined) {
      throw this.#sourceError.error;
    }
    return true;
  }

  /** Waits until something may be otherwise. */
  change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  wake(): void {
    this.#wake();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#pause);
    clearTimeout(this.#patience);
    if (this.#waiting.size > 0) {
      this.#duplex?.cancel();
    } else {
      this.#duplex?.end();
    }
    if (!this.#isRead) {
      // Not waited for: it may be waiting itself, for a request that never comes.
      Promise.resolve(this.#requests.return?.()).catch(() => {});
    }
  }

  // -- from the source ------------------------------------------------------------------------------------------------

  #room(): number {
    return MAX_UNDER_WAY - this.#waiting.size - this.#answered.length;
  }

  async #fill(): Promise<void> {
    this.#reading = true;
    try {
      while (this.#room() > 0 && !this.#closed && this.#fatal === undefined) {
        const pending = Promise.resolve(this.#requests.next());
        // Whoever has the next one at hand fills messages; whoever has not does not keep those waiting that are here.
        const late = setImmediate(() => this.#send(true));
        const { done, value } = await pending.finally(() => clearImmediate(late));
        if (done) {
          this.#isRead = true;
          break;
        }
        this.#add(value);
        this.#send(false);
      }
    } catch (error) {
      this.#isRead = true;
      this.#sourceError = { error };
    } finally {
      this.#reading = false;
    }
    this.#send(true);
    this.wake();
  }

  #add(request: VerifyRequest): void {
    const message = toMessage(request, request.requestId || this.#newRequestId());
    const bytes = encode(VerificationServiceService.verifyCredential, message, message.requestId).length;
    const item = { index: this.#read++, message, bytes, tries: 1 };
    if (bytes > MAX_MESSAGE_BYTES) {
      const description = "it is larger than a message may be";
      const { requestId } = message;
      const error = new InvalidRequest({
        code: status.INVALID_ARGUMENT,
        field: "presentation",
        description,
        requestId,
      });
      this.#answer(item, failureOf(error, requestId));
      return;
    }
    if (this.#waiting.size === 0) {
      this.#expect();
    }
    this.#waiting.set(String(item.index), item);
    this.#unsent.push(item);
  }

  // -- to the gateway -------------------------------------------------------------------------------------------------

  /** Sends what is to be sent, in full messages, and the rest too if `all`. */
  #send(all: boolean): void {
    if (this.#closed || this.#pause !== undefined || this.#fatal !== undefined) {
      return;
    }
    let from = 0;
    try {
      while (from < this.#unsent.length && (all || this.#unsent.length - from >= ITEMS_PER_MESSAGE)) {
        const to = this.#endOfMessage(from);
        const items = this.#unsent
          .slice(from, to)
          .map(({ index, message }) => ({ itemId: String(index), request: message }));
        this.#open().write({ items });
        from = to;
      }
    } catch (error) {
      this.#fail(error); // The client was closed.
    }
    this.#unsent = this.#unsent.slice(from);
  }

  #endOfMessage(from: number): number {
    let bytes = 0;
    let to = from;
    for (; to < this.#unsent.length && to - from < ITEMS_PER_MESSAGE; to++) {
      bytes += this.#unsent[to]?.bytes ?? 0;
      if (bytes > MAX_MESSAGE_BYTES && to > from) {
        break;
      }
    }
    return to;
  }

  #open(): Duplex {
    if (this.#duplex !== undefined) {
      return this.#duplex;
    }
    const connection = this.#connections.current();
    const release = connection.hold();
    const duplex: Duplex = connection.client.makeBidiStreamRequest(
      METHOD.path,
      METHOD.requestSerialize,
      (bytes) => bytes,
      new Metadata(),
    );
    duplex.on("data", (bytes: Buffer) => this.#receive(bytes));
    duplex.on("error", () => {}); // "status" says the same, and more
    duplex.on("status", (ended: StatusObject) => {
      release();
      if (this.#duplex === duplex) {
        this.#duplex = undefined;
        this.#ended(ended);
      }
    });
    this.#duplex = duplex;
    return duplex;
  }

  #ended(ended: StatusObject): void {
    if (this.#closed) {
      return;
    }
    this.#unsent = [...this.#waiting.values()];
    if (this.#unsent.length === 0) {
      return; // The gateway ends a stream on which nothing is sent. The next request opens another.
    }
    // A stream that ends well without having answered all is one that was cut off.
    const error = errorOfStatus(ended.code === status.OK ? { ...ended, code: status.UNAVAILABLE } : ended, undefined);
    this.#lastError = error;
    const wait =
      error instanceof Overloaded && ++this.#overloads < MAX_TRIES ? withJitter(error.retryAfterMs) : undefined;
    if (wait !== undefined) {
      this.#pauseFor(wait);
    } else if (error.code === status.UNAVAILABLE || error.code === status.CANCELLED) {
      this.#pauseFor(this.#backoffMs * (0.8 + 0.4 * Math.random()));
      this.#backoffMs = Math.min(2 * this.#backoffMs, MAX_BACKOFF_MS);
    } else {
      this.#fail(error);
    }
  }

  #pauseFor(milliseconds: number): void {
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.#send(true);
    }, milliseconds);
  }

  // -- from the gateway -----------------------------------------------------------------------------------------------

  #receive(bytes: Buffer): void {
    if (this.#closed) {
      return;
    }
    try {
      for (const result of decode(METHOD, bytes, undefined).results) {
        this.#settle(result);
      }
    } catch (error) {
      this.#duplex?.cancel();
      this.#fail(error);
      return;
    }
    this.#overloads = 0;
    this.#backoffMs = FIRST_BACKOFF_MS;
    this.#lastError = undefined;
    this.#expect();
    this.wake();
  }

  #settle({ itemId, result }: StreamResult): void {
    const item = this.#waiting.get(itemId);
    if (item === undefined) {
      return; // It was answered on an earlier stream, and this is the answer to its repetition.
    }
    const { requestId, predicates } = item.message;
    if (result?.$case === "error" && item.tries < MAX_TRIES) {
      const error = errorOfItem(result.value, requestId);
      const wait = error instanceof Overloaded ? withJitter(error.retryAfterMs) : undefined;
      if (wait !== undefined) {
        item.tries++;
        this.#unsent.push(item);
        this.#pauseFor(wait);
        return;
      }
    }
    this.#waiting.delete(itemId);
    this.#answer(item, resultOf(result, requestId, predicates.length));
  }

  #answer({ index }: Item, result: Result): void {
    this.#answered.push({ index, result });
    this.wake();
  }

  /** Begins to wait for an answer, or leaves off when none is due. */
  #expect(): void {
    clearTimeout(this.#patience);
    this.#patience = setTimeout(() => {
      if (this.#waiting.size > 0) {
        this.#duplex?.cancel();
        this.#fail(this.#lastError ?? new DeadlineExceeded({ code: status.DEADLINE_EXCEEDED }));
      }
    }, this.#waitMs);
  }

  #fail(error: unknown): void {
    this.#fatal = { error };
    this.wake();
  }
}
