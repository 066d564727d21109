package example.recognition.evidence;

import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Base64;

/** Base64url without padding (RFC 4648 section 5), in the one spelling that it has; and digests written in it. */
final class Base64Url {

  static final int HASH_BYTES = 32;

  private Base64Url() {}

  static String encode(byte[] raw) {
    return Base64.getUrlEncoder().withoutPadding().encodeToString(raw);
  }

  static byte[] decode(Object text) throws Unreadable {
    if (!(text instanceof String encoded)) {
      throw new Unreadable("base64url is not a string");
    }
    byte[] raw;
    try {
      raw = Base64.getUrlDecoder().decode(encoded);
    } catch (IllegalArgumentException e) {
      throw new Unreadable("not base64url");
    }
    // The decoder takes padding, and bits that are not used.
    if (!encode(raw).equals(encoded)) {
      throw new Unreadable("base64url is not canonical");
    }
    return raw;
  }

  static byte[] digest(byte[]... parts) {
    try {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      for (byte[] part : parts) {
        digest.update(part);
      }
      return digest.digest();
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every Java has SHA-256", e);
    }
  }

  static String sha256(byte[] raw) {
    return encode(digest(raw));
  }
}
