/**
 * What a holder's app does: present a credential (SD-JWT VC) with a proof of possession (RFC 9901 section 4.3). For
 * tests and demonstrations; a real app keeps its key where no program can read it.
 */

import { createHash, createPrivateKey, type JsonWebKey, KeyObject, sign } from "node:crypto";

/** What is to be shown, and to whom. */
export interface Presentation {
  /** The audience of the challenge that is answered. */
  readonly audience: string;
  /** Its nonce. */
  readonly nonce: string;
  /**
   * The claims to disclose, by name, or by as much of the path before it as tells it from others: `name`,
   * `address.locality`, `nationalities.0`. What they stand inside is disclosed too, what stands inside them is not.
   * Absent: everything.
   */
  readonly disclose?: readonly string[];
  /** When it is presented. Now. */
  readonly at?: Date;
}

const HASHES: { readonly [name: string]: string } = { "sha-256": "sha256", "sha-384": "sha384", "sha-512": "sha512" };

/**
 * Presents a credential.
 *
 * @param credential what the issuer gave: an SD-JWT without a proof.
 * @param key the holder's private key of P-256, for ES256: a JWK, or what `createPrivateKey` of node:crypto gives.
 * @returns an SD-JWT with a key-binding JWT.
 * @throws Error if the credential or the key is not what it must be, or a name is not that of one claim.
 */
export function present(credential: string, key: JsonWebKey | KeyObject, presentation: Presentation): string {
  const [issuerJwt = "", ...rest] = credential.split("~");
  if (rest.pop() !== "") {
    throw new Error("not an SD-JWT as an issuer gives it");
  }
  const payload: unknown = JSON.parse(Buffer.from(issuerJwt.split(".")[1] ?? "", "base64url").toString("utf8"));
  const hash = HASHES[isObject(payload) ? String(payload._sd_alg ?? "sha-256") : ""];
  if (hash === undefined) {
    throw new Error("not an SD-JWT, or of a hash that is not known");
  }
  const digest = (text: string) => createHash(hash).update(text, "ascii").digest("base64url");
  const chosen = choose(placesOf(payload, new Map(rest.map((each) => [digest(each), each]))), presentation.disclose);
  const sdJwt = [issuerJwt, ...rest.filter((each) => chosen.has(each)), ""].join("~");
  const header = encode({ alg: "ES256", typ: "kb+jwt" });
  const claims = encode({
    iat: Math.floor((presentation.at ?? new Date()).getTime() / 1_000),
    aud: presentation.audience,
    nonce: presentation.nonce,
    sd_hash: digest(sdJwt),
  });
  const privateKey = key instanceof KeyObject ? key : createPrivateKey({ key, format: "jwk" });
  if (privateKey.asymmetricKeyDetails?.namedCurve !== "prime256v1") {
    throw new Error("not a private key of P-256");
  }
  const signed = `${header}.${claims}`;
  const signature = sign("sha256", Buffer.from(signed, "ascii"), { key: privateKey, dsaEncoding: "ieee-p1363" });
  return `${sdJwt}${signed}.${signature.toString("base64url")}`;
}

/** The disclosures to keep: of the claims chosen, and of those that they stand inside. */
function choose(places: ReadonlyMap<string, string>, names: readonly string[] | undefined): ReadonlySet<string> {
  if (names === undefined) {
    return new Set(places.keys());
  }
  const paths = names.map((name) => pathOf(name, [...places.values()]));
  const kept = [...places].filter(([, place]) => paths.some((path) => path === place || path.startsWith(`${place}.`)));
  return new Set(kept.map(([disclosure]) => disclosure));
}

function pathOf(name: string, places: readonly string[]): string {
  const found = places.includes(name) ? [name] : places.filter((place) => place.endsWith(`.${name}`));
  if (found[0] === undefined || found.length > 1) {
    throw new Error(`${name} names ${found.length || "no"} claims that can be disclosed: ${places.join(" ")}`);
  }
  return found[0];
}

/** Where the claim of each disclosure stands. */
function placesOf(payload: unknown, disclosures: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const places = new Map<string, string>();
  const open = (digest: unknown, path: readonly string[], name: string | undefined): void => {
    const disclosure = typeof digest === "string" ? disclosures.get(digest) : undefined;
    if (disclosure === undefined || places.has(disclosure)) {
      return; // A decoy, or what the holder never got.
    }
    const content: unknown = JSON.parse(Buffer.from(disclosure, "base64url").toString("utf8"));
    if (!Array.isArray(content)) {
      throw new Error("a disclosure is not an array");
    }
    const place = [...path, name ?? String(content[1])];
    places.set(disclosure, place.join("."));
    walk(content[content.length - 1], place);
  };
  const walk = (value: unknown, path: readonly string[]): void => {
    if (Array.isArray(value)) {
      value.forEach((element, index) => {
        if (isObject(element) && "..." in element) {
          open(element["..."], path, String(index));
        } else {
          walk(element, [...path, String(index)]);
        }
      });
    } else if (isObject(value)) {
      for (const [name, member] of Object.entries(value)) {
        if (name === "_sd" && Array.isArray(member)) {
          for (const digest of member) {
            open(digest, path, undefined);
          }
        } else {
          walk(member, [...path, name]);
        }
      }
    }
  };
  walk(payload, []);
  return places;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value), "utf8").toString("base64url");
}
