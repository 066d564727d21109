/** A CA of the tests' own, since Node.js reads certificates and writes none. DER by hand (X.690), as much as is needed. */

import { generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import { isIP } from "node:net";

export interface Issued {
  readonly certificate: string;
  readonly privateKey: string;
  readonly key: KeyObject;
  readonly name: string;
}

const SEQUENCE = 0x30;
const SET = 0x31;
const ECDSA_WITH_SHA256 = der(SEQUENCE, der(0x06, Buffer.from("2a8648ce3d040302", "hex")));

/** Makes a CA. */
export function makeCa(name: string): Issued {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const isCa = extension("551d13", der(SEQUENCE, der(0x01, Buffer.from([0xff]))));
  return certify(name, publicKey, privateKey, [isCa], { name, key: privateKey });
}

/** Has a CA certify a new key, for one host. */
export function issue(ca: Issued, name: string, host: string): Issued {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const subject = isIP(host) ? der(0x87, Buffer.from(host.split(".").map(Number))) : der(0x82, Buffer.from(host));
  return certify(name, publicKey, privateKey, [extension("551d11", der(SEQUENCE, subject))], ca);
}

function certify(
  name: string,
  publicKey: KeyObject,
  privateKey: KeyObject,
  extensions: readonly Buffer[],
  issuer: { readonly name: string; readonly key: KeyObject },
): Issued {
  const body = der(
    SEQUENCE,
    der(0xa0, der(0x02, Buffer.from([2]))), // version 3
    der(0x02, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    ECDSA_WITH_SHA256,
    distinguishedName(issuer.name),
    der(SEQUENCE, der(0x17, Buffer.from("000101000000Z")), der(0x17, Buffer.from("491231235959Z"))),
    distinguishedName(name),
    publicKey.export({ type: "spki", format: "der" }),
    der(0xa3, der(SEQUENCE, ...extensions)),
  );
  const signature = der(0x03, Buffer.from([0]), sign("sha256", body, issuer.key));
  const encoded = der(SEQUENCE, body, ECDSA_WITH_SHA256, signature).toString("base64").replace(/.{64}/g, "$&\n");
  return {
    certificate: `-----BEGIN CERTIFICATE-----\n${encoded}\n-----END CERTIFICATE-----\n`,
    privateKey: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    key: privateKey,
    name,
  };
}

function distinguishedName(name: string): Buffer {
  const commonName = der(SEQUENCE, der(0x06, Buffer.from("550403", "hex")), der(0x0c, Buffer.from(name)));
  return der(SEQUENCE, der(SET, commonName));
}

function extension(oid: string, value: Buffer): Buffer {
  return der(SEQUENCE, der(0x06, Buffer.from(oid, "hex")), der(0x04, value));
}

function der(tag: number, ...content: readonly Buffer[]): Buffer {
  const value = Buffer.concat(content);
  const length = value.length < 0x80 ? [value.length] : [0x82, value.length >> 8, value.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), value]);
}
