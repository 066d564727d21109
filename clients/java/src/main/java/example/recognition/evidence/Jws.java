package example.recognition.evidence;

import java.nio.charset.StandardCharsets;
import java.util.Set;

/**
 * A well-formed JWS (RFC 7515). Anybody can make one: nothing in it counts before a key has verified it.
 *
 * @param algorithm Ed25519, ES256, ES384 or anything else
 * @param type what kind of document it claims to be
 * @param kid of the key that it claims to be signed with
 * @param payload what it says
 * @param signed what the signature is over
 * @param signature the signature
 */
record Jws(String algorithm, String type, String kid, byte[] payload, byte[] signed, byte[] signature) {

  private static final int MAX_HEADER = 683;
  private static final JsonReader.Limits HEADER_LIMITS = new JsonReader.Limits(512, 1, 3, 512);
  private static final Set<String> HEADER = Set.of("alg", "typ", "kid");

  /** Reads the compact form. */
  static Jws parse(String token, int maxChars) throws Unreadable {
    if (JsonReader.isLonger(token, maxChars)) {
      throw new Unreadable("JWS over the size limit");
    }
    String[] parts = token.split("\\.", -1);
    if (parts.length != 3 || parts[1].isEmpty()) {
      throw new Unreadable("not a compact JWS");
    }
    return assemble(parts[0], parts[1], Base64Url.decode(parts[1]), parts[2]);
  }

  /** Puts one together from its parts, of which the payload was decoded already. */
  static Jws assemble(Object header, String encoded, byte[] payload, Object signature) throws Unreadable {
    if (!(header instanceof String start) || start.length() > MAX_HEADER) {
      throw new Unreadable("JWS header is no string, or over the size limit");
    }
    // Nothing else may stand in it: no key, no address of one, nothing critical.
    JsonObject claims = JsonObject.of(JsonReader.read(Base64Url.decode(start), HEADER_LIMITS), HEADER);
    String algorithm = claims.string("alg");
    return new Jws(
        // Two names of one algorithm (RFC 9864), because only Ed25519 keys are imported.
        algorithm.equals("EdDSA") ? Key.ED25519 : algorithm,
        claims.string("typ"),
        claims.string("kid"),
        payload,
        (start + "." + encoded).getBytes(StandardCharsets.US_ASCII),
        Base64Url.decode(signature));
  }
}
