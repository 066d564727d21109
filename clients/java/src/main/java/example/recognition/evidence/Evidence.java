package example.recognition.evidence;

import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * Checks an evidence bundle: what a gateway decided, proven without asking anybody and without trusting the gateway.
 *
 * <p>It reads no clock, asks no network and keeps nothing; one thread or many may call it. Whose keys count is the
 * business of {@code Trust}. Rules that live here:
 *
 * <ul>
 *   <li>The receipt, the entry and its place in the log say the same, or there is no evidence. A hash in the proof too
 *       many is as bad as one too few.
 *   <li>Signed, in the log, and seen by others are three answers. "Not yet in the log" is what an honest bundle says in
 *       its first minutes; a proof that fails is something else.
 *   <li>A head of the log counts as seen by another province when a gateway of that province cosigned this very head.
 * </ul>
 */
public final class Evidence {

  /** Characters of a receipt, a checkpoint or a cosignature. */
  private static final int MAX_CHARS = 4_096;
  private static final JsonReader.Limits LIMITS = new JsonReader.Limits(MAX_CHARS, 2, 32, 1_024);
  /** Entries of a log. */
  private static final long MAX_TREE = 1L << 40;
  private static final Pattern NAME = Pattern.compile("[A-Za-z0-9_-]{1,64}");
  private static final Pattern MATTER = Pattern.compile("[A-Za-z0-9][A-Za-z0-9._:-]{0,63}");
  private static final Pattern REASON = Pattern.compile("[A-Z][A-Z_]{0,63}");
  private static final byte[] LEAF = {0};
  private static final byte[] NODE = {1};

  /** What a document has to be, by which key it is signed, and which claims it makes. */
  private enum Kind {
    RECEIPT(
        "verification-receipt+jwt",
        Trust.RECEIPT_KEYS,
        Set.of(
            "iss", "iat", "aud", "verified_at", "jti", "matter", "verdict", "charter_version", "charter_sha256",
            "view_id", "log", "position", "entry_sha256"),
        Set.of("reason")),
    CHECKPOINT(
        "audit-checkpoint+jwt", Trust.AUDIT_KEYS, Set.of("iss", "iat", "log", "size", "root"), Set.of()),
    COSIGNATURE(
        "audit-cosignature+jwt", Trust.AUDIT_KEYS, Set.of("iss", "iat", "log", "size", "root", "sub"), Set.of());

    private final String type;
    private final String purpose;
    private final Set<String> claims;
    private final Set<String> all;

    Kind(String type, String purpose, Set<String> claims, Set<String> optional) {
      this.type = type;
      this.purpose = purpose;
      this.claims = claims;
      this.all = new HashSet<>(claims);
      this.all.addAll(optional);
    }
  }

  /** A head of a log, by whoever it was signed. The root is base64url, of which there is one spelling. */
  private record Head(Object gateway, String log, long size, Object root) {

    static Head of(JsonObject claims, String gateway) throws Unreadable {
      claims.hash("root");
      return new Head(
          claims.get(gateway), claims.string("log"), claims.number("size", 0, MAX_TREE), claims.get("root"));
    }
  }

  private final Trust trust;
  /** Nothing may be dated after it; seconds since 1970. */
  private final long until;

  private Evidence(Trust trust, long until) {
    this.trust = trust;
    this.until = until;
  }

  /**
   * Checks a bundle and holds its dates against no clock.
   *
   * @param bundle the file
   * @param charter a charter that the caller trusts, no newer than the one in force when the bundle was put together
   * @param charterSha256 the digest of its payload, base64url, as the provinces announced it. Null: the charter is
   *     trusted as it is, so it must have come from somewhere that nobody who gains by the bundle could write to
   * @param witnesses how many other provinces must have seen the log, 1 to 3
   * @return what came of it; whatever is wrong with bundle or charter is a {@link NotProven}
   * @throws IllegalArgumentException if {@code witnesses} is not 1 to 3
   */
  public static Finding check(byte[] bundle, String charter, String charterSha256, int witnesses) {
    return check(bundle, charter, charterSha256, witnesses, Instant.ofEpochSecond(Charter.MAX_TIME - Charter.MAX_SKEW));
  }

  /**
   * Checks a bundle.
   *
   * @param bundle the file
   * @param charter a charter that the caller trusts, no newer than the one in force when the bundle was put together
   * @param charterSha256 the digest of its payload, base64url, as the provinces announced it. Null: the charter is
   *     trusted as it is, so it must have come from somewhere that nobody who gains by the bundle could write to
   * @param witnesses how many other provinces must have seen the log, 1 to 3
   * @param now the time; nothing may be dated after it, but for a minute by which clocks differ
   * @return what came of it; whatever is wrong with bundle or charter is a {@link NotProven}
   * @throws IllegalArgumentException if {@code witnesses} is not 1 to 3
   */
  public static Finding check(byte[] bundle, String charter, String charterSha256, int witnesses, Instant now) {
    Objects.requireNonNull(charter, "charter");
    if (witnesses < 1 || witnesses >= Charter.PROVINCES.size()) {
      throw new IllegalArgumentException("witnesses must be 1 to 3");
    }
    try {
      return check(Bundle.read(bundle), charter, charterSha256, witnesses, now.getEpochSecond() + Charter.MAX_SKEW);
    } catch (Unreadable e) {
      return new NotProven(Flaw.MALFORMED, e.getMessage());
    } catch (Refused e) {
      return e.finding();
    }
  }

  private static Finding check(Bundle bundle, String document, String pin, int needed, long until)
      throws Unreadable, Refused {
    List<Charter> charters = Charter.follow(document, pin, bundle.charters());
    // Unverified as yet, and only to learn as of when keys have to count: a false time finds no key.
    long at = claims(Jws.parse(bundle.receipt(), MAX_CHARS)).number("iat", 0, Charter.MAX_TIME);
    Trust trust = new Trust(charters.get(charters.size() - 1), at, bundle.statements(), bundle.events());
    return new Evidence(trust, until).check(bundle, charters, needed);
  }

  private Finding check(Bundle bundle, List<Charter> charters, int needed) throws Unreadable, Refused {
    JsonObject claims = verified(bundle.receipt(), Kind.RECEIPT);
    Receipt receipt = receipt(claims);
    requireCharter(receipt, charters);
    byte[] leaf = Base64Url.digest(LEAF, bundle.entry());
    if (!Arrays.equals(leaf, claims.hash("entry_sha256")) || !Entry.read(bundle.entry()).isThatOf(claims)) {
      throw new Refused(
          Flaw.ENTRY_MISMATCH, "the entry is not the one that the receipt names, or says something else");
    }
    if (bundle.checkpoint() == null) {
      return new Signed(receipt, List.of(), false);
    }
    JsonObject checkpoint = verified(bundle.checkpoint(), Kind.CHECKPOINT);
    Head head = Head.of(checkpoint, "iss");
    if (!receipt.gateway().equals(head.gateway()) || !receipt.log().equals(head.log())) {
      throw new Refused(Flaw.PROOF_INVALID, "the head is of another log");
    }
    if (receipt.position() >= head.size()
        || !Arrays.equals(
            root(leaf, receipt.position(), head.size(), bundle.inclusion()), checkpoint.hash("root"))) {
      throw new Refused(Flaw.PROOF_INVALID, "the log is not proven to hold the entry");
    }
    List<String> seen = witnesses(bundle.cosignatures(), head, receipt.province());
    return seen.size() < needed
        ? new Signed(receipt, seen, true)
        : new Proven(receipt, seen, head.size(), Instant.ofEpochSecond((Long) checkpoint.get("iat")));
  }

  private static void requireCharter(Receipt receipt, List<Charter> charters) throws Refused {
    boolean isKnown =
        charters.stream()
            .anyMatch(
                each ->
                    each.version() == receipt.charterVersion() && each.sha256().equals(receipt.charterSha256()));
    if (receipt.charterVersion() >= charters.get(0).version() && !isKnown) {
      throw new Refused(Flaw.CHARTER_INVALID, "the receipt names another charter");
    }
  }

  private List<String> witnesses(List<String> tokens, Head head, String own) {
    Map<String, String> found = new HashMap<>();
    for (String token : tokens) { // as many as a bundle may have
      // One that does not count spoils nothing, or a bad witness could silence the good ones.
      try {
        JsonObject claims = verified(token, Kind.COSIGNATURE);
        String witness = claims.string("iss");
        if (Head.of(claims, "sub").equals(head) && !trust.province(witness).equals(own)) {
          found.putIfAbsent(trust.province(witness), witness);
        }
      } catch (Unreadable | Refused e) {
        continue;
      }
    }
    List<String> seen = new ArrayList<>();
    for (String province : Charter.PROVINCES) {
      if (found.containsKey(province)) {
        seen.add(found.get(province));
      }
    }
    return List.copyOf(seen);
  }

  /** Gives the root that a proof leads to, by the definition of RFC 9162 section 2.1.3.1; null: of another length. */
  static byte[] root(byte[] leaf, long index, long size, List<byte[]> proof) {
    if (size == 1 || proof.isEmpty()) {
      return size == 1 && proof.isEmpty() ? leaf : null;
    }
    long left = Long.highestOneBit(size - 1); // the largest power of two below size
    byte[] last = proof.get(proof.size() - 1);
    List<byte[]> others = proof.subList(0, proof.size() - 1);
    boolean isRight = index >= left;
    byte[] inner = isRight ? root(leaf, index - left, size - left, others) : root(leaf, index, left, others);
    if (inner == null) {
      return null;
    }
    return isRight ? Base64Url.digest(NODE, last, inner) : Base64Url.digest(NODE, inner, last);
  }

  // -- what gateways sign ---------------------------------------------------------------------------------------------

  private static JsonObject claims(Jws jws) throws Unreadable {
    return JsonReader.read(jws.payload(), LIMITS);
  }

  private JsonObject verified(String token, Kind kind) throws Unreadable, Refused {
    Jws jws = Jws.parse(token, MAX_CHARS);
    JsonObject claims = claims(jws);
    boolean isComplete = claims.names().containsAll(kind.claims) && kind.all.containsAll(claims.names());
    if (!jws.type().equals(kind.type) || !isComplete) {
      throw new Unreadable("not a " + kind.type + ", a claim is missing, or there is one too many");
    }
    long issuedAt = claims.number("iat", 0, Charter.MAX_TIME);
    if (issuedAt > until) {
      throw new Refused(Flaw.NOT_YET_VALID, kind.type + " is from the future");
    }
    claims.text("log", NAME);
    if (!trust.key(claims.get("iss"), kind.purpose, jws.kid(), issuedAt).verifies(jws)) {
      throw new Refused(Flaw.SIGNATURE_INVALID, "signature of the " + kind.type + " does not hold");
    }
    return claims;
  }

  private Receipt receipt(JsonObject claims) throws Unreadable {
    Optional<String> reason = claims.has("reason") ? Optional.of(claims.text("reason", REASON)) : Optional.empty();
    Receipt.Verdict verdict = verdict(claims.string("verdict"));
    long issuedAt = claims.number("iat", 0, Charter.MAX_TIME);
    long verifiedAt = claims.number("verified_at", 0, Charter.MAX_TIME);
    if (reason.isEmpty() != (verdict == Receipt.Verdict.ACCEPTED) || issuedAt < verifiedAt) {
      throw new Unreadable("a receipt contradicts itself");
    }
    claims.hash("charter_sha256");
    String gateway = claims.string("iss");
    return new Receipt(
        gateway,
        trust.province(gateway),
        claims.text("aud", Charter.TOKEN),
        claims.text("jti", NAME),
        Instant.ofEpochSecond(verifiedAt),
        Instant.ofEpochSecond(issuedAt),
        claims.text("matter", MATTER),
        verdict,
        reason,
        (int) claims.number("charter_version", 0, Charter.MAX_VERSION),
        claims.string("charter_sha256"),
        claims.text("view_id", NAME),
        claims.string("log"),
        claims.number("position", 0, MAX_TREE - 1));
  }

  private static Receipt.Verdict verdict(String claim) throws Unreadable {
    return switch (claim) {
      case "accepted" -> Receipt.Verdict.ACCEPTED;
      case "rejected" -> Receipt.Verdict.REJECTED;
      case "indeterminate" -> Receipt.Verdict.INDETERMINATE;
      default -> throw new Unreadable("verdict is none");
    };
  }
}
