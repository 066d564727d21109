package example.recognition.evidence;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * What the provinces agreed, as far as it matters here.
 *
 * <p>The first charter is the caller's. Each that follows it is signed by a quorum of the anchors of the one before
 * and by a quorum of its own. An anchor counts once, and a signature that does not verify spoils nothing. The digest is
 * over the payload: signatures may be added later, and make no other charter of it. What decides nothing is not read.
 *
 * @param version from 1
 * @param sha256 digest of the payload, base64url
 * @param previousSha256 of the one before; null: there is none
 * @param expiresAt seconds since 1970
 * @param quorum how many anchors make one
 * @param anchors their keys by kid
 * @param members all of them
 * @param gateways members that are gateways: their provinces
 * @param grace seconds for which what anchors said still counts after its end
 * @param encoded the payload, base64url
 * @param payload the payload
 * @param signatures each of two members that may be anything
 */
record Charter(
    int version,
    String sha256,
    String previousSha256,
    long expiresAt,
    int quorum,
    Map<String, Map<String, Key>> anchors,
    List<String> members,
    Map<String, String> gateways,
    long grace,
    String encoded,
    byte[] payload,
    List<JsonObject> signatures) {

  static final List<String> PROVINCES = List.of("sh", "js", "zj", "ah");
  /** Seconds by which clocks may differ. */
  static final long MAX_SKEW = 60;
  /** The end of the year 9999. */
  static final long MAX_TIME = 253_402_300_799L;
  static final int MAX_VERSION = 1_000_000;
  /** Characters of a charter, the largest thing in a bundle. */
  static final int MAX_DOCUMENT = 1_048_576;
  static final int MAX_MEMBERS = 400;
  /** An identifier. */
  static final Pattern TOKEN = Pattern.compile("[!-~]{1,255}");
  static final String GATEWAY = "recognition_gateway";

  private static final String TYPE = "recognition-charter+jws";
  private static final int MAX_SIGNATURES = 64;
  private static final int MAX_ANCHORS = 16;
  private static final long MAX_LIFETIME = 400 * 86_400;
  private static final long MAX_GRACE = 86_400;
  private static final JsonReader.Limits ENVELOPE_LIMITS =
      new JsonReader.Limits(MAX_DOCUMENT, 3, 3 * MAX_SIGNATURES + 2, MAX_DOCUMENT);
  private static final JsonReader.Limits LIMITS = new JsonReader.Limits(MAX_DOCUMENT, 8, 50_000, 4_096);
  private static final Set<String> ENVELOPE = Set.of("payload", "signatures");
  private static final Set<String> SIGNATURE = Set.of("protected", "signature");
  private static final Set<String> CLAIMS =
      Set.of("version", "prev_sha256", "iat", "exp", "anchors", "quorum", "members", "agreement");
  private static final Set<String> ANCHOR = Set.of("entity_id", "jwks", "province");
  private static final Set<String> MEMBER = Set.of("entity_id", "province", "entity_types", "name_zh", "name_en");

  /** Gives the caller's charter, and those that follow it in the bundle. A pin of null is none. */
  static List<Charter> follow(String document, String pin, List<String> successors) throws Refused {
    Charter pinned;
    List<Charter> others = new ArrayList<>();
    try {
      pinned = read(document);
      for (String each : successors) {
        others.add(read(each));
      }
    } catch (Unreadable e) {
      throw new Refused(Flaw.CHARTER_INVALID, e.getMessage());
    }
    if (pin != null && !pinned.sha256.equals(pin)) {
      throw new Refused(Flaw.CHARTER_INVALID, "the charter is not the pinned one");
    }
    pinned.requireQuorum(pinned);
    // Those before the pinned one decide nothing; but they are its predecessors, or this is another history.
    if (!others.isEmpty()
        && others.get(0).version <= pinned.version
        && others.stream().noneMatch(each -> each.sha256.equals(pinned.sha256))) {
      throw new Refused(Flaw.CHARTER_INVALID, "the pinned charter is not among those of the bundle");
    }
    List<Charter> charters = new ArrayList<>(List.of(pinned));
    others.stream().filter(each -> each.version > pinned.version).forEach(charters::add);
    requireOrder(others);
    requireOrder(charters);
    for (int next = 1; next < charters.size(); next++) {
      charters.get(next).requireQuorum(charters.get(next - 1));
      charters.get(next).requireQuorum(charters.get(next));
    }
    return charters;
  }

  private static void requireOrder(List<Charter> charters) throws Refused {
    for (int next = 1; next < charters.size(); next++) {
      Charter before = charters.get(next - 1);
      Charter each = charters.get(next);
      if (each.version != before.version + 1 || !before.sha256.equals(each.previousSha256)) {
        throw new Refused(Flaw.CHARTER_INVALID, "a charter does not follow the one before");
      }
    }
  }

  private void requireQuorum(Charter electorate) throws Refused {
    Set<String> signed = new HashSet<>();
    for (JsonObject each : signatures) { // at most MAX_SIGNATURES; one that does not verify spoils nothing
      Jws jws;
      try {
        jws = Jws.assemble(each.get("protected"), encoded, payload, each.get("signature"));
      } catch (Unreadable e) {
        continue;
      }
      electorate.anchors.forEach(
          (anchor, keys) -> {
            Key key = keys.get(jws.kid());
            if (key != null && jws.type().equals(TYPE) && key.verifies(jws)) {
              signed.add(anchor);
            }
          });
    }
    if (signed.size() < electorate.quorum) {
      throw new Refused(
          Flaw.QUORUM_NOT_MET, "too few anchors of charter version " + electorate.version + " signed");
    }
  }

  private static Charter read(String document) throws Unreadable {
    if (JsonReader.isLonger(document, MAX_DOCUMENT)) {
      throw new Unreadable("a charter is over the size limit");
    }
    JsonObject envelope = JsonObject.of(JsonReader.read(JsonReader.utf8(document), ENVELOPE_LIMITS), ENVELOPE);
    List<JsonObject> signatures = objects(envelope.items("signatures", 0, MAX_SIGNATURES), SIGNATURE);
    byte[] payload = Base64Url.decode(envelope.get("payload"));
    JsonObject claims = JsonObject.of(JsonReader.read(payload, LIMITS), CLAIMS);
    List<JsonObject> anchors = objects(claims.items("anchors", 1, MAX_ANCHORS), ANCHOR);
    List<JsonObject> members = objects(claims.items("members", 1, MAX_MEMBERS), MEMBER);

    // No anchor twice, no province twice, no key twice: each would be two votes. No anchor vouches for itself.
    Set<String> named = new HashSet<>();
    Set<String> provinces = new HashSet<>();
    Set<String> kids = new HashSet<>();
    boolean isOnce = true;
    Map<String, Map<String, Key>> keys = new LinkedHashMap<>();
    for (JsonObject anchor : anchors) {
      String entity = anchor.text("entity_id", TOKEN);
      Map<String, Key> own = Key.readSet(anchor.get("jwks"));
      isOnce &= named.add(entity) & provinces.add(province(anchor));
      for (String kid : own.keySet()) {
        isOnce &= kids.add(kid);
      }
      keys.put(entity, own);
    }
    List<String> entities = new ArrayList<>();
    Map<String, String> gateways = new LinkedHashMap<>();
    for (JsonObject member : members) {
      String entity = member.text("entity_id", TOKEN);
      isOnce &= named.add(entity);
      entities.add(entity);
      String province = province(member);
      if (member.items("entity_types", 1, 2).contains(GATEWAY)) {
        gateways.put(entity, province);
      }
    }
    if (!isOnce) {
      throw new Unreadable("an entity, a province or a key appears twice in a charter");
    }

    int version = (int) claims.number("version", 1, MAX_VERSION);
    int quorum = (int) claims.number("quorum", 0, MAX_ANCHORS);
    // More than half, so that no two disjoint sets of anchors can sign.
    if (2 * quorum <= anchors.size() || quorum > anchors.size()) {
      throw new Unreadable("the quorum of a charter is not more than half, or more than all");
    }
    String previous = claims.get("prev_sha256") == null ? null : claims.text("prev_sha256", TOKEN);
    long expiresAt = claims.number("exp", 0, MAX_TIME);
    long lifetime = expiresAt - claims.number("iat", 0, MAX_TIME);
    if ((version == 1) != (previous == null) || lifetime <= 0 || lifetime > MAX_LIFETIME) {
      throw new Unreadable("a charter has no predecessor or no proper end");
    }
    return new Charter(
        version,
        Base64Url.sha256(payload),
        previous,
        expiresAt,
        quorum,
        keys,
        entities,
        gateways,
        JsonObject.of(claims.get("agreement")).number("stale_grace_seconds", 0, MAX_GRACE),
        envelope.string("payload"),
        payload,
        signatures);
  }

  private static List<JsonObject> objects(List<?> items, Set<String> names) throws Unreadable {
    List<JsonObject> objects = new ArrayList<>();
    for (Object item : items) {
      objects.add(JsonObject.of(item, names));
    }
    return objects;
  }

  private static String province(JsonObject entity) throws Unreadable {
    String province = entity.string("province");
    if (!PROVINCES.contains(province)) {
      throw new Unreadable("a charter names a province that is none");
    }
    return province;
  }
}
