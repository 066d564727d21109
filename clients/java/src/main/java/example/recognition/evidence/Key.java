package example.recognition.evidence;

import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.security.AlgorithmParameters;
import java.security.GeneralSecurityException;
import java.security.InvalidKeyException;
import java.security.KeyFactory;
import java.security.NoSuchAlgorithmException;
import java.security.PublicKey;
import java.security.Signature;
import java.security.SignatureException;
import java.security.spec.ECFieldFp;
import java.security.spec.ECGenParameterSpec;
import java.security.spec.ECParameterSpec;
import java.security.spec.ECPoint;
import java.security.spec.ECPublicKeySpec;
import java.security.spec.InvalidKeySpecException;
import java.security.spec.X509EncodedKeySpec;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * A public key, from a JWK (RFC 7517), and the one algorithm that it is for. The algorithm is the key's: a signature
 * that names another does not hold. There is one key for one {@code kid}, its thumbprint (RFC 7638).
 */
final class Key {

  static final String ED25519 = "Ed25519";

  private static final int MAX_KEYS = 16;
  /** Closed: whatever else stands in a key, such as its private half, is no business of ours. */
  private static final Set<String> MEMBERS = Set.of("kty", "crv", "x", "y", "kid", "alg", "use");
  private static final Map<String, Curve> CURVES =
      Map.of(
          "P-256", Curve.of("ES256", "secp256r1", "SHA256withECDSAinP1363Format", 32),
          "P-384", Curve.of("ES384", "secp384r1", "SHA384withECDSAinP1363Format", 48));
  private static final int ED25519_BYTES = 32;
  /** What stands before the 32 bytes of an Ed25519 key in the form that Java reads (RFC 8410). */
  private static final byte[] ED25519_PREFIX = HexFormat.of().parseHex("302a300506032b6570032100");
  /** One of these as a public key verifies signatures that nobody made. The top bit is the sign of x. */
  private static final Set<String> SMALL_ORDER =
      Set.of(
          "00".repeat(32),
          "01" + "00".repeat(31),
          "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
          "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
          "ec" + "ff".repeat(30) + "7f",
          "ed" + "ff".repeat(30) + "7f",
          "ee" + "ff".repeat(30) + "7f");

  private final String kid;
  private final String algorithm;
  /** Null: an Ed25519 key. */
  private final Curve curve;
  private final byte[] x;
  private final byte[] y;

  private Key(String kid, String algorithm, Curve curve, byte[] x, byte[] y) {
    this.kid = kid;
    this.algorithm = algorithm;
    this.curve = curve;
    this.x = x;
    this.y = y;
  }

  String kid() {
    return kid;
  }

  /** Whether the JWS names this key's algorithm, and the signature holds. */
  boolean verifies(Jws jws) {
    // Java 17 overlooks what follows an Ed25519 signature.
    boolean canBe = curve == null ? jws.signature().length == 2 * ED25519_BYTES : curve.canBe(jws.signature());
    if (!jws.algorithm().equals(algorithm) || !canBe) {
      return false;
    }
    try {
      Signature signature = Signature.getInstance(curve == null ? ED25519 : curve.signature());
      signature.initVerify(publicKey());
      signature.update(jws.signed());
      return signature.verify(jws.signature());
    } catch (SignatureException | InvalidKeyException | InvalidKeySpecException e) {
      return false;
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("this Java cannot verify " + algorithm, e);
    }
  }

  private PublicKey publicKey() throws NoSuchAlgorithmException, InvalidKeySpecException {
    if (curve == null) {
      byte[] encoded = Arrays.copyOf(ED25519_PREFIX, ED25519_PREFIX.length + ED25519_BYTES);
      System.arraycopy(x, 0, encoded, ED25519_PREFIX.length, ED25519_BYTES);
      return KeyFactory.getInstance(ED25519).generatePublic(new X509EncodedKeySpec(encoded));
    }
    ECPoint point = new ECPoint(new BigInteger(1, x), new BigInteger(1, y));
    return KeyFactory.getInstance("EC").generatePublic(new ECPublicKeySpec(point, curve.parameters()));
  }

  /** Reads a JWK Set, by kid. One bad key refuses the set. */
  static Map<String, Key> readSet(Object jwks) throws Unreadable {
    List<?> items = JsonObject.of(jwks).items("keys", 1, MAX_KEYS);
    Map<String, Key> keys = new LinkedHashMap<>();
    for (Object item : items) {
      Key key = read(JsonObject.of(item));
      if (keys.put(key.kid, key) != null) {
        throw new Unreadable("a key appears twice");
      }
    }
    return keys;
  }

  private static Key read(JsonObject jwk) throws Unreadable {
    if (!MEMBERS.containsAll(jwk.names()) || (jwk.has("use") && !"sig".equals(jwk.get("use")))) {
      throw new Unreadable("a key has a member that it may not have, or is not for signatures");
    }
    Key key = "OKP".equals(jwk.get("kty")) ? readOkp(jwk) : readEc(jwk);
    boolean isNamed = key.algorithm.equals(jwk.get("alg")) || (key.curve == null && "EdDSA".equals(jwk.get("alg")));
    if (!key.kid.equals(jwk.get("kid")) || (jwk.has("alg") && !isNamed)) {
      throw new Unreadable("kid is not the key's thumbprint, or alg does not fit the key");
    }
    return key;
  }

  private static Key readEc(JsonObject jwk) throws Unreadable {
    String crv = jwk.string("crv");
    Curve curve = CURVES.get(crv);
    if (!"EC".equals(jwk.get("kty")) || curve == null) {
      throw new Unreadable("key type or curve is not one of the federation's");
    }
    byte[] x = Base64Url.decode(jwk.get("x"));
    byte[] y = Base64Url.decode(jwk.get("y"));
    if (x.length != curve.size() || y.length != curve.size()) {
      throw new Unreadable("a coordinate has the wrong length");
    }
    // Java takes any two numbers for a point.
    if (!curve.holds(new BigInteger(1, x), new BigInteger(1, y))) {
      throw new Unreadable("point is not on the curve");
    }
    String members = String.format(
        "{\"crv\":\"%s\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}", crv, jwk.get("x"), jwk.get("y"));
    return new Key(thumbprint(members), curve.algorithm(), curve, x, y);
  }

  private static Key readOkp(JsonObject jwk) throws Unreadable {
    byte[] x = Base64Url.decode(jwk.get("x"));
    if (!ED25519.equals(jwk.get("crv")) || jwk.has("y") || x.length != ED25519_BYTES || isOfSmallOrder(x)) {
      throw new Unreadable("not an Ed25519 key, or a point of small order");
    }
    String members = String.format("{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"%s\"}", jwk.get("x"));
    return new Key(thumbprint(members), ED25519, null, x, null);
  }

  private static boolean isOfSmallOrder(byte[] point) {
    byte[] unsigned = point.clone();
    unsigned[ED25519_BYTES - 1] &= 0x7f;
    return SMALL_ORDER.contains(HexFormat.of().formatHex(unsigned));
  }

  private static String thumbprint(String members) {
    return Base64Url.sha256(members.getBytes(StandardCharsets.US_ASCII));
  }

  /** A curve, the algorithm that is for it, and the bytes of a coordinate. */
  private record Curve(String algorithm, String signature, int size, ECParameterSpec parameters) {

    static Curve of(String algorithm, String name, String signature, int size) {
      try {
        AlgorithmParameters parameters = AlgorithmParameters.getInstance("EC");
        parameters.init(new ECGenParameterSpec(name));
        return new Curve(algorithm, signature, size, parameters.getParameterSpec(ECParameterSpec.class));
      } catch (GeneralSecurityException e) {
        throw new IllegalStateException("this Java cannot verify " + algorithm, e);
      }
    }

    boolean holds(BigInteger x, BigInteger y) {
      BigInteger p = ((ECFieldFp) parameters.getCurve().getField()).getP();
      BigInteger right = x.multiply(x).add(parameters.getCurve().getA()).multiply(x).add(parameters.getCurve().getB());
      return x.compareTo(p) < 0 && y.compareTo(p) < 0 && y.multiply(y).subtract(right).mod(p).signum() == 0;
    }

    /** Whether both halves are in their range: the first releases of Java 17 take zeros for a signature of anything. */
    boolean canBe(byte[] signature) {
      if (signature.length != 2 * size) {
        return false;
      }
      BigInteger r = new BigInteger(1, Arrays.copyOf(signature, size));
      BigInteger s = new BigInteger(1, Arrays.copyOfRange(signature, size, 2 * size));
      BigInteger n = parameters.getOrder();
      return r.signum() > 0 && r.compareTo(n) < 0 && s.signum() > 0 && s.compareTo(n) < 0;
    }
  }
}
