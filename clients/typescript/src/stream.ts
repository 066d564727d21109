/**
 * Verification as a stream: requests are read as outcomes are taken.
 *
 * One loop gives outcomes out. A reader fills it from the source as long as few enough requests are under way, that is
 * read and their outcomes not taken. What is on its way to the gateway is in `waiting` until its answer comes, so a stream
 * that ends loses nothing: the next one sends it again. Answers are read at once, since the gateway cuts off whoever does
 * not read them; they have room, because there is one for each request under way at most, and what answers none of them
 * is dropped. What is to be sent waits for the gateway to read on.
 *
 * When a stream is given up, what is under way fails. The source is then asked for one request more: only if there is
 * one was the stream cut short. It fails like the others, so that nothing that was read is without an outcome.
 */

import { type ClientDuplexStream, Metadata, type StatusObject, status } from "@grpc/grpc-js";
import { type Call, decode, waitOf } from "./calls.js";
import type { Connection, Connections } from "./connections.js";
import {
  closedError,
  DamagedAnswer,
  DeadlineExceeded,
  endedError,
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
import { requestIdOf, toMessage, type VerifyRequest } from "./requests.js";
import { failureOf, type Outcome, outcomeOf } from "./verdicts.js";

const METHOD = VerificationServiceService.streamVerifyCredentials;
const MAX_UNDER_WAY = 256;
/** How many requests one message holds: the gateway serves so many best. */
const ITEMS_PER_MESSAGE = 16;
/** A message may have a mebibyte; the rest is room for the names of items. */
const MAX_MESSAGE_BYTES = 1_000_000;
const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 2_000;
/** Answers that answer nothing; whoever sends more of them is not answering. */
const MAX_STRAYS = 1_000;
/** How long the gateway has to end a stream when all is answered. */
const END_WITHIN_MS = 10_000;

/** What became of one request of a stream. */
export interface Streamed {
  /** Its position in what was streamed, from 0. */
  readonly index: number;
  readonly outcome: Outcome;
}

interface Item {
  readonly index: number;
  readonly message: VerifyCredentialRequest;
  readonly bytes: number;
  /** The stream that is to answer it; none before it is sent, and until it is sent again. */
  on: Duplex | undefined;
}

type Duplex = ClientDuplexStream<StreamVerifyCredentialsRequest, Buffer>;

/** Streams `source` through the gateway; see `RecognitionClient.stream`. */
export async function* streamOutcomes(
  connections: Connections,
  source: Iterable<VerifyRequest> | AsyncIterable<VerifyRequest>,
  call: Call,
): AsyncGenerator<Streamed, void, undefined> {
  call.signal?.throwIfAborted();
  if (connections.isClosed) {
    throw closedError();
  }
  const exchange = new Exchange(connections, source, call);
  const abort = () => exchange.abort();
  call.signal?.addEventListener("abort", abort, { once: true });
  try {
    for (;;) {
      const next = exchange.take();
      if (next !== undefined) {
        yield next;
      } else if (call.signal?.aborted) {
        throw call.signal.reason; // Whatever was read has had its outcome.
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

  /** What is sent on. */
  #duplex: Duplex | undefined;
  #connection: Connection | undefined;
  /** That one, and those on earlier connections whose answers are still to come. */
  readonly #duplexes = new Set<Duplex>();
  #strays = 0;
  /** Why nothing more is sent: the gateway has no room for longer than is waited. What was sent may yet be answered. */
  #refused: Overloaded | undefined;
  /** Why nothing is asked any more. */
  #givenUp: RecognitionError | undefined;
  /** It was given up before all was read. */
  #isCut = false;
  /** Why the last stream ended, or an item had no room, until there is an answer again. */
  #lastError: RecognitionError | undefined;
  #backoffMs = FIRST_BACKOFF_MS;
  /** Nothing is sent until it has run out: the gateway asked to wait, or could not be reached. */
  #pause: NodeJS.Timeout | undefined;
  #pausedUntil = 0;
  /** Runs while answers are waited for. */
  #patience: NodeJS.Timeout | undefined;
  #patientUntil = 0;
  #closed = false;
  readonly #ignoreClose: () => void;
  #wake: () => void = () => {};

  constructor(connections: Connections, source: Iterable<VerifyRequest> | AsyncIterable<VerifyRequest>, call: Call) {
    this.#connections = connections;
    this.#requests = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
    this.#waitMs = call.deadlineMs;
    this.#ignoreClose = connections.onClose(() => this.#cut(closedError()));
  }

  /** Asks nothing more, and reads nothing more; what was read fails. */
  abort(): void {
    this.#cut(endedError());
  }

  /** Gives an outcome if there is one, and has more requests read if there is room for a message of them. */
  take(): Streamed | undefined {
    const next = this.#answered.shift();
    if (!this.#reading && !this.#isRead && this.#mayRead() && this.#room() >= ITEMS_PER_MESSAGE) {
      void this.#fill();
    }
    return next;
  }

  /**
   * Whether every request has been read and every outcome taken.
   *
   * @throws what went wrong, once no outcome is left to be taken.
   */
  isOver(): boolean {
    if (this.#waiting.size > 0) {
      return false;
    }
    if (this.#sourceError !== undefined) {
      throw this.#sourceError.error;
    }
    if (this.#isCut && !this.#isRead) {
      throw this.#givenUp;
    }
    return this.#isRead;
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
    this.#ignoreClose();
    clearTimeout(this.#pause);
    clearTimeout(this.#patience);
    for (const duplex of this.#duplexes) {
      if (this.#waiting.size > 0) {
        duplex.cancel();
      } else {
        duplex.end();
        const late = setTimeout(() => duplex.cancel(), END_WITHIN_MS).unref();
        duplex.once("status", () => clearTimeout(late));
      }
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

  #mayRead(): boolean {
    return !this.#closed && !this.#isCut && (this.#refused === undefined || this.#givenUp !== undefined);
  }

  async #fill(): Promise<void> {
    this.#reading = true;
    try {
      while (this.#room() > 0 && this.#mayRead()) {
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
    const index = this.#read++;
    const requestId = requestIdOf(request);
    if (this.#givenUp !== undefined) {
      this.#isCut = true;
      this.#answer(index, failureOf(this.#givenUp.forRequest(requestId), requestId));
      return;
    }
    try {
      const { message, bytes } = toMessage(request, requestId);
      if (this.#waiting.size === 0) {
        this.#expect();
      }
      const item: Item = { index, message, bytes: bytes.length, on: undefined };
      this.#waiting.set(String(index), item);
      this.#unsent.push(item);
    } catch (error) {
      if (!(error instanceof InvalidRequest)) {
        throw error;
      }
      this.#answer(index, failureOf(error, requestId));
    }
  }

  // -- to the gateway -------------------------------------------------------------------------------------------------

  /** Sends what is to be sent, in full messages, and the rest too if `all`. */
  #send(all: boolean): void {
    if (this.#closed || this.#pause !== undefined || this.#givenUp !== undefined || this.#refused !== undefined) {
      return;
    }
    let from = 0;
    while (from < this.#unsent.length && (all || this.#unsent.length - from >= ITEMS_PER_MESSAGE)) {
      const duplex = this.#open();
      if (duplex.writableNeedDrain) {
        break; // The gateway reads slowly. "drain" tells when it has read.
      }
      const to = this.#endOfMessage(from);
      const items = this.#unsent.slice(from, to).map((item) => {
        item.on = duplex;
        return { itemId: String(item.index), request: item.message };
      });
      duplex.write({ items });
      from = to;
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

  /** Gives the stream to send on: another one once the certificate is another. */
  #open(): Duplex {
    const connection = this.#connections.current();
    if (this.#duplex !== undefined && this.#connection === connection) {
      return this.#duplex;
    }
    this.#duplex?.end(); // What was sent on it is still answered there.
    const release = connection.hold();
    const duplex: Duplex = connection.client.makeBidiStreamRequest(
      METHOD.path,
      METHOD.requestSerialize,
      (bytes) => bytes,
      new Metadata(),
    );
    duplex.on("data", (bytes: Buffer) => this.#receive(duplex, bytes));
    duplex.on("drain", () => this.#send(true));
    duplex.on("error", () => {}); // "status" says the same, and more
    duplex.on("status", (ended: StatusObject) => {
      release();
      this.#duplexes.delete(duplex);
      if (this.#duplex === duplex) {
        this.#duplex = undefined;
      }
      this.#ended(duplex, ended);
    });
    this.#duplexes.add(duplex);
    this.#duplex = duplex;
    this.#connection = connection;
    this.#strays = 0;
    return duplex;
  }

  #ended(duplex: Duplex, ended: StatusObject): void {
    if (this.#closed || this.#givenUp !== undefined) {
      return;
    }
    let isAnyLost = false;
    for (const item of this.#waiting.values()) {
      if (item.on === duplex) {
        item.on = undefined;
        isAnyLost = true;
      }
    }
    this.#unsent = [...this.#waiting.values()].filter(({ on }) => on === undefined);
    if (this.#refused !== undefined) {
      this.#giveUpIfAnswered(this.#refused);
      return;
    }
    if (!isAnyLost) {
      // The gateway ends a stream on which nothing is sent. What is to be sent opens another.
      this.#send(true);
      return;
    }
    // A stream that ends well without having answered all is one that was cut off.
    const cutOff = ended.code === status.OK ? { ...ended, code: status.UNAVAILABLE } : ended;
    const error = errorOfStatus(cutOff, undefined, this.#connections.address);
    this.#lastError = error;
    if (error instanceof Overloaded && this.#isTooLong(waitOf(error))) {
      this.#giveUp(error);
    } else if (error instanceof Overloaded) {
      this.#pauseFor(waitOf(error));
    } else if (error.code === status.UNAVAILABLE || error.code === status.CANCELLED) {
      this.#pauseFor(this.#backoffMs * (0.8 + 0.4 * Math.random()));
      this.#backoffMs = Math.min(2 * this.#backoffMs, MAX_BACKOFF_MS);
    } else {
      this.#giveUp(error);
    }
  }

  /** Whether it is given up by then, unless something else is answered. */
  #isTooLong(wait: number): boolean {
    return performance.now() + wait >= this.#patientUntil;
  }

  #pauseFor(wait: number): void {
    const until = performance.now() + wait;
    if (this.#pause !== undefined && until <= this.#pausedUntil) {
      return;
    }
    clearTimeout(this.#pause);
    this.#pausedUntil = until;
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.#send(true);
    }, wait);
  }

  // -- from the gateway -----------------------------------------------------------------------------------------------

  #receive(duplex: Duplex, bytes: Buffer): void {
    if (this.#closed || this.#givenUp !== undefined) {
      return;
    }
    const under = this.#waiting.size;
    try {
      let settled = false;
      for (const result of decode(METHOD, bytes, undefined).results) {
        settled = this.#settle(duplex, result) || settled;
      }
      if (settled) {
        this.#backoffMs = FIRST_BACKOFF_MS;
        this.#lastError = this.#refused;
        this.#expect();
      }
    } catch (error) {
      if (!(error instanceof DamagedAnswer)) {
        throw error;
      }
      this.#giveUp(error);
      return;
    }
    if (this.#refused !== undefined && this.#waiting.size < under) {
      this.#giveUpIfAnswered(this.#refused);
    }
  }

  /** Gives up once all that was sent is answered. */
  #giveUpIfAnswered(error: RecognitionError): void {
    if ([...this.#waiting.values()].every(({ on }) => on === undefined)) {
      this.#giveUp(error);
    }
  }

  /** Takes one answer; whether it is what was waited for, and no refusal for want of room. */
  #settle(duplex: Duplex, { itemId, result }: StreamResult): boolean {
    const item = this.#waiting.get(itemId);
    if (item?.on !== duplex) {
      if (++this.#strays > MAX_STRAYS) {
        throw new DamagedAnswer({ description: `more than ${MAX_STRAYS} answers to nothing that was asked` });
      }
      return false;
    }
    const { requestId, predicates } = item.message;
    const outcome = outcomeOf(result, requestId, predicates.length);
    const isRefused = outcome.kind === "failure" && outcome.error instanceof Overloaded;
    if (isRefused) {
      this.#lastError = outcome.error;
      item.on = undefined;
      const wait = waitOf(outcome.error);
      if (!this.#isTooLong(wait)) {
        this.#unsent.push(item);
        this.#pauseFor(wait);
        return false;
      }
      this.#refused ??= outcome.error;
    }
    this.#waiting.delete(itemId);
    this.#answer(item.index, outcome);
    return !isRefused;
  }

  #answer(index: number, outcome: Outcome): void {
    this.#answered.push({ index, outcome });
    this.wake();
  }

  /** Begins to wait for an answer anew. */
  #expect(): void {
    clearTimeout(this.#patience);
    this.#patientUntil = performance.now() + this.#waitMs;
    this.#patience = setTimeout(() => {
      if (this.#waiting.size > 0) {
        this.#giveUp(this.#lastError ?? new DeadlineExceeded({ code: status.DEADLINE_EXCEEDED }));
      }
    }, this.#waitMs);
  }

  #cut(error: RecognitionError): void {
    this.#giveUp(error);
    this.#isCut = true; // A source that is slow is not waited for.
    this.wake();
  }

  /** Asks nothing more; what is under way has failed. */
  #giveUp(error: RecognitionError): void {
    this.#givenUp ??= error;
    clearTimeout(this.#pause);
    clearTimeout(this.#patience);
    for (const duplex of this.#duplexes) {
      duplex.cancel();
    }
    for (const { index, message } of this.#waiting.values()) {
      this.#answer(index, failureOf(error.forRequest(message.requestId), message.requestId));
    }
    this.#waiting.clear();
    this.#unsent = [];
    this.wake();
  }
}
