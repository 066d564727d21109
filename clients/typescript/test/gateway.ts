/** A gateway in the tests' own process, behind real mutual TLS, that answers what a test has it answer. */

import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Metadata,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServiceDefinition,
  type sendUnaryData,
  status,
} from "@grpc/grpc-js";
import { Profile } from "recognition-client";
import { verification } from "recognition-client/stubs";
import { type Issued, issue, makeCa } from "./certificates.js";

const { VerificationServiceService: service, VerifyCredentialResponse } = verification;

/** Answers are bytes, so that a test can give what no gateway gives yet. */
export type Answer = Uint8Array | { readonly code: status; readonly details?: string; readonly metadata?: Metadata };
export type StreamCall = ServerDuplexStream<verification.StreamVerifyCredentialsRequest, Uint8Array>;

/** What a test has the gateway do. */
export interface Behaviour {
  challenge?: () => Answer;
  verify?: (request: verification.VerifyCredentialRequest, caller: X509Certificate) => Answer | Promise<Answer>;
  batch?: (request: verification.BatchVerifyCredentialsRequest) => Answer;
  stream?: (call: StreamCall, caller: X509Certificate) => void;
  consent?: () => Answer;
  withdrawal?: () => Answer;
}

/** A running gateway, and a folder with the files of a client. */
export class Gateway {
  readonly folder = mkdtempSync(join(tmpdir(), "gateway-"));
  readonly profile: Profile;
  readonly #server: Server;
  readonly #ca: Issued;

  private constructor(server: Server, port: number, ca: Issued) {
    this.#server = server;
    this.#ca = ca;
    this.profile = new Profile({
      address: `127.0.0.1:${port}`,
      ca: join(this.folder, "ca.pem"),
      certificate: join(this.folder, "service.pem"),
      privateKey: join(this.folder, "service.key"),
    });
  }

  /**
   * Starts one.
   *
   * @param certified the name that its certificate is for.
   */
  static async start(behaviour: Behaviour, certified = "127.0.0.1"): Promise<Gateway> {
    const server = new Server();
    server.addService(raw(service), {
      createChallenge: unary(() => behaviour.challenge?.()),
      verifyCredential: unary((request: verification.VerifyCredentialRequest, caller) =>
        behaviour.verify?.(request, caller),
      ),
      batchVerifyCredentials: unary((request: verification.BatchVerifyCredentialsRequest) =>
        behaviour.batch?.(request),
      ),
      recordConsent: unary(() => behaviour.consent?.()),
      withdrawConsent: unary(() => behaviour.withdrawal?.()),
      streamVerifyCredentials: (call: StreamCall) => behaviour.stream?.(call, callerOf(call)),
    });
    const ca = makeCa("Test CA");
    const own = issue(ca, "gateway", certified);
    const files = [{ cert_chain: Buffer.from(own.certificate), private_key: Buffer.from(own.privateKey) }];
    const tls = ServerCredentials.createSsl(Buffer.from(ca.certificate), files, true);
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", tls, (error, bound) => (error ? reject(error) : resolve(bound)));
    });
    const gateway = new Gateway(server, port, ca);
    writeFileSync(gateway.profile.ca, ca.certificate);
    gateway.certify("service");
    return gateway;
  }

  /** Gives the client a new certificate and key. */
  certify(name: string): void {
    const made = issue(this.#ca, name, "service.example");
    writeFileSync(this.profile.certificate, made.certificate);
    writeFileSync(this.profile.privateKey, made.privateKey);
  }

  stop(): void {
    this.#server.forceShutdown();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A decision, as bytes. */
export function decision(verdict: verification.VerifyCredentialResponse["verdict"]): Uint8Array {
  return VerifyCredentialResponse.encode(decided(verdict)).finish();
}

/** A decision, as a message. */
export function decided(
  verdict: verification.VerifyCredentialResponse["verdict"],
): verification.VerifyCredentialResponse {
  return VerifyCredentialResponse.fromPartial({
    verdict,
    verificationId: "AaIn64zju6K1w9bhnWQFcg",
    verifyTime: new Date("2026-03-01T08:00:00Z"),
    nextStep: verification.NextStep.PROCEED,
  });
}

/** An acceptance of a person who does not exist. */
export function acceptance(
  more: Partial<verification.Acceptance> = {},
): verification.VerifyCredentialResponse["verdict"] {
  const value = verification.Acceptance.fromPartial({
    subject: "v1.SECRET-PSEUDONYM",
    issuer: "https://identity.sh.example",
    credentialType: "urn:yrd:credential:resident-id:1",
    assurance: { identity: 3, authenticator: 3, federation: 2, acr: "urn:yrd:loa:4", level: 4 },
    eraseTime: new Date("2026-04-01T08:00:00Z"),
    attributes: { name: "SECRET-NAME", id_number: "310101190001010011" },
    ...more,
  });
  return { $case: "accepted", value };
}

function callerOf(call: Pick<StreamCall, "getAuthContext">): X509Certificate {
  return new X509Certificate(call.getAuthContext().sslPeerCertificate?.raw ?? "");
}

function unary<Request>(answer: (request: Request, caller: X509Certificate) => Answer | Promise<Answer> | undefined) {
  return (call: ServerUnaryCall<Request, Uint8Array>, callback: sendUnaryData<Uint8Array>) => {
    void Promise.resolve(answer(call.request, callerOf(call))).then((given) => {
      if (given instanceof Uint8Array) {
        callback(null, given);
      } else {
        callback(given ?? { code: status.UNIMPLEMENTED });
      }
    });
  };
}

function raw(definition: ServiceDefinition): ServiceDefinition {
  const asBytes = ([name, method]: [string, MethodDefinition<unknown, unknown>]) => [
    name,
    { ...method, responseSerialize: (bytes: Uint8Array) => Buffer.from(bytes) },
  ];
  return Object.fromEntries(Object.entries(definition).map(asBytes));
}
