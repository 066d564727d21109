/**
 * Connections by mutual TLS: one at a time, and another when the certificate is replaced.
 *
 * The files are looked at when a call begins or a message of a stream is sent, at most once a second. Until certificate and key fit together, what was
 * good stays in use; calls under way end on the connection that they began on.
 */

import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { isIP } from "node:net";
import { type ConnectionOptions, createSecureContext } from "node:tls";
import { type ChannelCredentials, type ChannelOptions, Client, credentials } from "@grpc/grpc-js";
import { closedError } from "./errors.js";
import { SERVICE_CONFIG } from "./gen/service-config.js";
import type { Profile } from "./profile.js";

const LOOK_EVERY_MS = 1_000;
/** The answers to a full batch may be larger than what gRPC takes by default. */
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;
const MAX_KEPT_BYTES = 5 * 1024 * 1024;
const CHANNEL_OPTIONS: ChannelOptions = {
  "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
  "grpc.service_config_disable_resolution": 1,
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.keepalive_permit_without_calls": 0,
  // A gateway that was started again is found soon, instead of after up to two minutes.
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 2_000,
  "grpc.max_receive_message_length": MAX_ANSWER_BYTES,
  // A request that is larger is not kept, and so not tried again: a full batch has to fit.
  "grpc.per_rpc_retry_buffer_size": MAX_KEPT_BYTES,
  // A gateway is in its caller's own network: no variable of the environment sends this past somebody else.
  "grpc.enable_http_proxy": 0,
  // Else a connection of another client could serve this one's calls.
  "grpc.use_local_subchannel_pool": 1,
};

/** A connection, open until it is retired and its last call is over. */
export class Connection {
  readonly client: Client;
  #calls = 0;
  #retired = false;

  constructor(address: string, tls: ChannelCredentials, options: ChannelOptions) {
    this.client = new Client(address, tls, options);
  }

  /** Counts a call; the function returned counts it off. */
  hold(): () => void {
    this.#calls++;
    return () => {
      this.#calls--;
      this.#closeIfDone();
    };
  }

  /** Takes no more calls. */
  retire(): void {
    this.#retired = true;
    this.#closeIfDone();
  }

  #closeIfDone(): void {
    if (this.#retired && this.#calls === 0) {
      this.client.close();
    }
  }
}

/** Gives the connection to call on. */
export class Connections {
  readonly #profile: Profile;
  #current: Connection;
  #seen: string;
  #lookedAt = performance.now();
  #closed = false;
  readonly #onClose = new Set<() => void>();

  /** @throws Error if the files cannot be read or do not fit together. */
  constructor(profile: Profile) {
    this.#profile = profile;
    this.#seen = look(profile);
    this.#current = connect(profile);
  }

  /** Where the gateway is looked for. */
  get address(): string {
    return this.#profile.address;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** @throws Unavailable if it was closed. */
  current(): Connection {
    if (this.#closed) {
      throw closedError();
    }
    const now = performance.now();
    if (now - this.#lookedAt >= LOOK_EVERY_MS) {
      this.#lookedAt = now;
      this.#reload();
    }
    return this.#current;
  }

  /** Has something that is under way ended when this is closed; the function returned calls that off. */
  onClose(end: () => void): () => void {
    this.#onClose.add(end);
    return () => this.#onClose.delete(end);
  }

  close(): void {
    this.#closed = true;
    this.#current.retire();
    for (const end of [...this.#onClose]) {
      end();
    }
  }

  #reload(): void {
    try {
      const seen = look(this.#profile);
      if (seen === this.#seen) {
        return;
      }
      const next = connect(this.#profile);
      this.#current.retire();
      this.#current = next;
      this.#seen = seen;
    } catch {
      // Somebody is writing the files, or wrote them wrong. They are looked at again in a second.
    }
  }
}

/** What changes when one of the files does. */
function look({ ca, certificate, privateKey }: Profile): string {
  return [ca, certificate, privateKey]
    .map((file) => {
      const { dev, ino, size, mtimeNs, ctimeNs } = statSync(file, { bigint: true });
      return [dev, ino, size, mtimeNs, ctimeNs].join();
    })
    .join(";");
}

function connect(profile: Profile): Connection {
  const [ca, cert, key] = [profile.ca, profile.certificate, profile.privateKey].map((file) => readFileSync(file));
  if (!ca || !cert || !key || !new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) {
    throw new Error(`${profile.certificate} and ${profile.privateKey} do not fit together`);
  }
  new X509Certificate(ca); // what is no certificate would be taken for an empty list of CAs
  const secureContext = createSecureContext({ ca, cert, key, minVersion: "TLSv1.2" });
  const tls = credentials.createFromSecureContext(secureContext, { rejectUnauthorized: true });
  return new Connection(profile.address, withoutAddressAsName(tls), CHANNEL_OPTIONS);
}

/**
 * The server's identity is always verified. But an IP address must not be sent as the server's name (RFC 6066 section
 * 3): gRPC does, and Node.js writes a warning then. There is no option for it. Should gRPC be built otherwise one day,
 * the warning comes back, and nothing else.
 */
function withoutAddressAsName(tls: ChannelCredentials): ChannelCredentials {
  const create = tls._createSecureConnector.bind(tls);
  tls._createSecureConnector = (...target) => {
    const connector: { connectionOptions?: ConnectionOptions } & ReturnType<typeof create> = create(...target);
    const { connectionOptions } = connector;
    if (connectionOptions?.servername && connectionOptions.host && isIP(connectionOptions.servername) !== 0) {
      delete connectionOptions.servername; // Then the identity is verified by the host.
    }
    return connector;
  };
  return tls;
}
