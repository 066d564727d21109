/** The holder's part without a gateway: what is presented, and what the proof covers. */

import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, verify } from "node:crypto";
import { test } from "node:test";
import { present } from "recognition-client/holder";

const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const KEY = privateKey.export({ format: "jwk" });
const CHALLENGE = { audience: "https://service.example", nonce: "n-1", at: new Date(1_000) };

const sha256 = (text: string) => createHash("sha256").update(text).digest("base64url");
const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
const decode = (text: string | undefined) => JSON.parse(Buffer.from(text ?? "", "base64url").toString());

const NAME = encode(["salt-1", "name", "徐某"]);
const CITY = encode(["salt-2", "locality", "合肥"]);
const ADDRESS = encode(["salt-3", "address", { _sd: [sha256(CITY)], country: "CN" }]);
const NATION = encode(["salt-4", "CN"]);
const PAYLOAD = { _sd: [sha256(NAME), sha256(ADDRESS), sha256("decoy")], nationalities: [{ "...": sha256(NATION) }] };
const ISSUER_JWT = `${encode({ alg: "ES256" })}.${encode(PAYLOAD)}.c2ln`;
const CREDENTIAL = [ISSUER_JWT, NAME, CITY, ADDRESS, NATION, ""].join("~");

const CASES: readonly (readonly [readonly string[] | undefined, readonly string[]])[] = [
  [undefined, [NAME, CITY, ADDRESS, NATION]],
  [[], []],
  [["name"], [NAME]],
  [["address"], [ADDRESS]],
  [["address.locality"], [CITY, ADDRESS]],
  [["locality"], [CITY, ADDRESS]],
  [["nationalities.0"], [NATION]],
];

for (const [disclose, disclosed] of CASES) {
  test(`${disclose === undefined ? "everything" : disclose.join() || "nothing"} is disclosed`, () => {
    const presentation = present(CREDENTIAL, KEY, disclose === undefined ? CHALLENGE : { ...CHALLENGE, disclose });
    const parts = presentation.split("~");
    const proof = parts.pop() ?? "";
    assert.deepEqual(parts, [ISSUER_JWT, ...disclosed]);
    const [header, claims, signature] = proof.split(".");
    assert.deepEqual(decode(header), { alg: "ES256", typ: "kb+jwt" });
    const sd_hash = sha256(presentation.slice(0, presentation.length - proof.length));
    assert.deepEqual(decode(claims), { iat: 1, aud: CHALLENGE.audience, nonce: CHALLENGE.nonce, sd_hash });
    const key = { key: publicKey, dsaEncoding: "ieee-p1363" } as const;
    assert(verify("sha256", Buffer.from(`${header}.${claims}`), key, Buffer.from(signature ?? "", "base64url")));
  });
}

test("what cannot be presented is refused", () => {
  assert.throws(() => present(CREDENTIAL, KEY, { ...CHALLENGE, disclose: ["nmae"] }), /nmae names no claims/);
  const other = encode(["salt-5", "name", "何某"]);
  const twice = `e30.${encode({ act: { _sd: [sha256(NAME)] }, subject: { _sd: [sha256(other)] } })}.c2ln~${NAME}~${other}~`;
  assert.throws(() => present(twice, KEY, { ...CHALLENGE, disclose: ["name"] }), /2 claims.* act.name subject.name/);
  assert(present(twice, KEY, { ...CHALLENGE, disclose: ["act.name"] }).includes(`~${NAME}~ey`));
  assert.throws(() => present(`${CREDENTIAL}proof`, KEY, CHALLENGE), /not an SD-JWT/);
  assert.throws(() => present("x~", KEY, CHALLENGE));
  const { privateKey: large } = generateKeyPairSync("ec", { namedCurve: "P-384" });
  assert.throws(() => present(CREDENTIAL, large, CHALLENGE), /P-256/);
});
