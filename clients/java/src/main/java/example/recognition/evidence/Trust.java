package example.recognition.evidence;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Whose keys count: the keys of gateways under a charter, as of the time of a receipt.
 *
 * <p>A bundle brings documents along, and none of them counts for being there:
 *
 * <ul>
 *   <li>An anchor speaks by a key that the charter lists for it, and only through the statements that its own
 *       configuration of the day names, unexpired but for the charter's grace when the receipt was signed.
 *   <li>A gateway's key counts, for one purpose, when a quorum of anchors pins it and the gateway lists it itself,
 *       signed by a federation key that a quorum attests. A key that two members share counts for neither.
 *   <li>A key revoked as compromised proves nothing, a superseded one only what was signed before.
 *   <li>A document that cannot be believed costs its author's word and nothing else.
 * </ul>
 */
final class Trust {

  static final String RECEIPT_KEYS = "receipt_jwks";
  static final String AUDIT_KEYS = "audit_jwks";

  private static final List<String> PURPOSES = List.of(RECEIPT_KEYS, AUDIT_KEYS);
  private static final String STATEMENT_TYPE = "entity-statement+jwt";
  private static final String EVENTS_TYPE = "entity-events-statement+jwt";
  private static final int MAX_STATEMENT = 90_000;
  private static final int MAX_EVENT_STATEMENT = 65_536;
  private static final int MAX_REVOCATIONS = 256;
  private static final int MAX_HINTS = 10;
  private static final int MAX_NAMES = 64;
  private static final int MAX_ENTITY_ID = 512;
  private static final int MAX_REASON = 200;
  /** Seconds from iat to exp of a statement. */
  private static final long MAX_LIFETIME = 3_600;
  private static final Pattern DIGEST = Pattern.compile("[A-Za-z0-9_-]{43}");
  // Possessive, here and below, where a long text would be a deep recursion; what they match is the same.
  private static final String LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?";
  private static final Pattern DOMAIN = Pattern.compile("\\.?(?:" + LABEL + "\\.)*+(?=[a-z])" + LABEL);
  private static final Pattern ENTITY_ID =
      Pattern.compile(
          "https://(?<host>" + LABEL + "(?:\\." + LABEL + ")*+)(?::[1-9][0-9]{0,4})?"
              + "(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*+)*+");
  /** OpenID Federation gives these a meaning that would have to be checked, and nobody here writes them. */
  private static final Set<String> REFUSED =
      Set.of(
          "crit", "metadata_policy_crit", "trust_anchor_hints", "trust_marks", "trust_mark_issuers",
          "trust_mark_owners", "source_endpoint", "aud", "trust_anchor");
  private static final Set<String> CONSTRAINTS =
      Set.of("max_path_length", "naming_constraints", "allowed_entity_types");
  private static final Set<Set<String>> ENTRY_SHAPES =
      Set.of(
          Set.of("seq", "sha256"), Set.of("revoked_at", "reason"), Set.of("suspended_at", "until", "reason"));

  private final Charter charter;
  private final long at;
  private final Map<Pair, Map<String, Key>> keys = new HashMap<>();
  private final Map<Pair, Long> revoked = new HashMap<>();

  /** Two texts as one key of a map: gateway and purpose, member and kid, or who says something and about whom. */
  private record Pair(String first, String second) {}

  /** A well-formed statement, in time. Nobody's word yet. The keys are the subject's federation keys by kid. */
  private record Statement(
      Jws jws,
      JsonObject claims,
      String iss,
      String sub,
      long issuedAt,
      long expiresAt,
      Map<String, Key> jwks,
      JsonObject metadata) {}

  /** What an anchor says of a member: its own configuration and its statement, both verified. */
  private record Word(String anchor, Statement head, Statement statement) {}

  /** Finds the keys that count as of a time, by the documents of a bundle. */
  Trust(Charter charter, long at, List<String> statements, List<String> events) {
    this.charter = charter;
    this.at = at;
    Map<String, Jws> configurations = new HashMap<>();
    Map<Pair, Jws> subordinates = new LinkedHashMap<>();
    choose(statements, configurations, subordinates);

    Map<String, Statement> heads = new HashMap<>();
    charter.anchors().forEach((anchor, own) -> heads.put(anchor, head(configurations.get(anchor), own)));
    Map<String, List<Word>> words = new LinkedHashMap<>();
    charter.members().forEach(member -> words.put(member, new ArrayList<>()));
    subordinates.forEach(
        (place, jws) -> {
          Statement head = heads.get(place.first());
          Statement statement = head == null ? null : named(head, jws);
          if (statement != null && words.containsKey(place.second())) {
            words.get(place.second()).add(new Word(place.first(), head, statement));
          }
        });

    Map<String, Map<String, Key>> federation = new HashMap<>();
    words.forEach((member, said) -> federation.put(member, attested(said)));
    revoke(events, federation);
    Set<String> shared = shared(words);
    for (String gateway : charter.gateways().keySet()) {
      Statement own = readable(configurations.get(gateway));
      List<Map<String, Map<String, Key>>> votes = new ArrayList<>();
      if (own != null && isByOwner(own, federation.get(gateway))) {
        words.get(gateway).forEach(word -> votes.add(vote(own, word)));
      }
      for (String purpose : PURPOSES) {
        List<Map<String, Key>> said = new ArrayList<>();
        votes.forEach(vote -> said.add(vote.getOrDefault(purpose, Map.of())));
        Map<String, Key> counting = byQuorum(said);
        counting.keySet().removeAll(shared);
        keys.put(new Pair(gateway, purpose), counting);
      }
    }
  }

  /** Gives a gateway's key for a purpose, which is to have signed something at a time. */
  Key key(Object gateway, String purpose, String kid, long signedAt) throws Refused {
    if (!(gateway instanceof String entity) || !charter.gateways().containsKey(entity)) {
      throw new Refused(Flaw.GATEWAY_UNKNOWN, "not a gateway of the charter");
    }
    Long since = revoked.get(new Pair(entity, kid));
    if (since != null && Math.max(at, signedAt) >= since) {
      throw new Refused(Flaw.KEY_REVOKED, "the key was compromised, or had been superseded");
    }
    if (at >= charter.expiresAt()) {
      throw new Refused(Flaw.CHARTER_EXPIRED, "the charter had expired");
    }
    Key key = keys.get(new Pair(entity, purpose)).get(kid);
    if (key == null) {
      throw new Refused(Flaw.KEY_UNKNOWN, "no quorum of anchors attested the key under " + purpose);
    }
    return key;
  }

  /** Gives a gateway's province. */
  String province(String gateway) {
    return charter.gateways().get(gateway);
  }

  // -- documents ------------------------------------------------------------------------------------------------------

  /**
   * Chooses the newest configuration of each entity by then, and the statements that those of anchors name. Nothing is
   * verified yet: a forged one that pushes out a good one makes the bundle prove less, never more.
   */
  private void choose(List<String> tokens, Map<String, Jws> configurations, Map<Pair, Jws> subordinates) {
    Map<String, Long> newest = new HashMap<>();
    Map<String, JsonObject> said = new HashMap<>();
    record Other(Pair place, Jws jws) {}
    List<Other> others = new ArrayList<>();
    for (String token : tokens) { // as many as a bundle may have
      try {
        Jws jws = Jws.parse(token, MAX_STATEMENT);
        JsonObject claims = JsonReader.read(jws.payload(), JsonReader.Limits.DEFAULT);
        String iss = claims.text("iss", Charter.TOKEN);
        String sub = claims.text("sub", Charter.TOKEN);
        long issuedAt = claims.number("iat", 0, Charter.MAX_TIME);
        if (!iss.equals(sub)) {
          others.add(new Other(new Pair(iss, sub), jws));
        } else if (issuedAt <= at + Charter.MAX_SKEW && issuedAt > newest.getOrDefault(iss, -1L)) {
          newest.put(iss, issuedAt);
          configurations.put(iss, jws);
          said.put(iss, claims);
        }
      } catch (Unreadable e) {
        continue; // it says nothing
      }
    }
    Set<Object> digests = new HashSet<>();
    for (String anchor : charter.anchors().keySet()) {
      if (said.containsKey(anchor)) {
        for (Object entry : entries(said.get(anchor)).members().values()) {
          if (entry instanceof JsonObject named) {
            digests.add(named.get("sha256"));
          }
        }
      }
    }
    for (Other other : others) {
      if (digests.contains(Base64Url.sha256(other.jws().payload()))) {
        subordinates.put(other.place(), other.jws());
      }
    }
  }

  /** Gives what an anchor's configuration names. */
  private static JsonObject entries(JsonObject claims) {
    return claims.get("snapshot") instanceof JsonObject snapshot
            && snapshot.get("members") instanceof JsonObject members
        ? members
        : JsonObject.EMPTY;
  }

  private Statement readable(Jws jws) {
    try {
      return jws == null ? null : read(jws);
    } catch (Unreadable e) {
      return null;
    }
  }

  private Statement read(Jws jws) throws Unreadable {
    JsonObject claims = JsonReader.read(jws.payload(), JsonReader.Limits.DEFAULT);
    String iss = claims.text("iss", Charter.TOKEN);
    String sub = claims.text("sub", Charter.TOKEN);
    boolean isMisplaced =
        iss.equals(sub) ? claims.has("constraints") || claims.has("metadata_policy") : claims.has("authority_hints");
    if (!jws.type().equals(STATEMENT_TYPE) || isMisplaced || REFUSED.stream().anyMatch(claims::has)) {
      throw new Unreadable("not an entity statement of this federation");
    }
    long issuedAt = claims.number("iat", 0, Charter.MAX_TIME);
    long expiresAt = claims.number("exp", 0, Charter.MAX_TIME);
    if (expiresAt <= issuedAt
        || expiresAt - issuedAt > MAX_LIFETIME
        || at < issuedAt - Charter.MAX_SKEW
        || at >= expiresAt + charter.grace() + Charter.MAX_SKEW) {
      throw new Unreadable("a statement is out of its time, or lives too long");
    }
    JsonObject metadata = claims.objectOrEmpty("metadata");
    for (Object parameters : metadata.members().values()) {
      if (JsonObject.of(parameters).members().containsValue(null)) {
        throw new Unreadable("metadata holds null");
      }
    }
    for (String name : metadata.objectOrEmpty("federation_entity").names()) {
      if (name.endsWith("jwks") || name.endsWith("jwks_uri") || name.endsWith("_endpoint")) {
        throw new Unreadable("metadata holds keys or addresses where none may be");
      }
    }
    return new Statement(jws, claims, iss, sub, issuedAt, expiresAt, Key.readSet(claims.get("jwks")), metadata);
  }

  // -- what anchors say -----------------------------------------------------------------------------------------------

  /** Gives an anchor's configuration, signed by a key that charter and anchor list; null: the anchor says nothing. */
  private Statement head(Jws jws, Map<String, Key> listed) {
    Statement head = readable(jws);
    if (head == null || !head.jwks().containsKey(jws.kid()) || !listed.containsKey(jws.kid())) {
      return null;
    }
    Map<String, Object> entries = entries(head.claims()).members();
    try {
      for (Map.Entry<String, Object> entry : entries.entrySet()) {
        checkEntry(entry.getKey(), JsonObject.of(entry.getValue()));
      }
    } catch (Unreadable e) {
      return null;
    }
    return entries.size() <= Charter.MAX_MEMBERS && listed.get(jws.kid()).verifies(jws) ? head : null;
  }

  private static void checkEntry(String member, JsonObject entry) throws Unreadable {
    if (JsonReader.isLonger(member, MAX_ENTITY_ID) || !ENTRY_SHAPES.contains(entry.names())) {
      throw new Unreadable("an entry of a snapshot is neither a statement, a withdrawal nor a suspension");
    }
    for (String name : entry.names()) {
      switch (name) {
        case "sha256" -> entry.text(name, DIGEST);
        case "seq" -> entry.number(name, 1, JsonReader.MAX_INTEGER);
        case "reason" -> {
          if (JsonReader.isLonger(entry.string(name), MAX_REASON)) {
            throw new Unreadable("a reason is over the size limit");
          }
        }
        default -> entry.number(name, 0, Charter.MAX_TIME);
      }
    }
  }

  /** Gives an anchor's statement about a member if its configuration names it; null: withdrawn, suspended or absent. */
  private Statement named(Statement head, Jws jws) {
    Statement statement = readable(jws);
    Key key = statement == null ? null : charter.anchors().get(head.iss()).get(jws.kid());
    if (key == null || !head.jwks().containsKey(key.kid())) {
      return null;
    }
    boolean isNamed =
        entries(head.claims()).get(statement.sub()) instanceof JsonObject entry
            && entry.get("seq") instanceof Long seq
            && seq.equals(statement.claims().get("seq"))
            && Base64Url.sha256(jws.payload()).equals(entry.get("sha256"));
    return isNamed && key.verifies(jws) ? statement : null;
  }

  /** Gives the federation keys of a member that a quorum of anchors attests. */
  private Map<String, Key> attested(List<Word> said) {
    List<Map<String, Key>> sets = new ArrayList<>();
    said.forEach(word -> sets.add(word.statement().jwks()));
    return byQuorum(sets);
  }

  /** Gives the keys that stand in as many sets as make a quorum. */
  private Map<String, Key> byQuorum(List<Map<String, Key>> sets) {
    Map<String, Integer> count = new HashMap<>();
    Map<String, Key> found = new HashMap<>();
    for (Map<String, Key> set : sets) {
      found.putAll(set);
      set.keySet().forEach(kid -> count.merge(kid, 1, Integer::sum));
    }
    found.keySet().removeIf(kid -> count.get(kid) < charter.quorum());
    return found;
  }

  /** Gives the names of all application keys that a statement pins, once for each place they stand in. */
  private static List<String> pinned(Statement statement) {
    List<String> kids = new ArrayList<>();
    for (Object parameters : statement.metadata().members().values()) {
      ((JsonObject) parameters) // it is not read otherwise
          .members()
              .forEach(
                  (name, jwks) -> {
                    if (name.endsWith("jwks")
                        && jwks instanceof JsonObject set
                        && set.get("keys") instanceof List<?> keys) {
                      for (Object key : keys) {
                        if (key instanceof JsonObject jwk && jwk.get("kid") instanceof String kid) {
                          kids.add(kid);
                        }
                      }
                    }
                  });
    }
    return kids;
  }

  /** Gives the keys that are an anchor's, or that a quorum pins for two members: one could speak for the other. */
  private Set<String> shared(Map<String, List<Word>> words) {
    Set<String> owned = new HashSet<>();
    Set<String> shared = new HashSet<>();
    for (List<Word> said : words.values()) {
      Map<String, Integer> count = new HashMap<>();
      for (Word word : said) {
        new HashSet<>(pinned(word.statement())).forEach(kid -> count.merge(kid, 1, Integer::sum));
      }
      count.forEach(
          (kid, number) -> {
            if (number >= charter.quorum() && !owned.add(kid)) {
              shared.add(kid);
            }
          });
    }
    charter.anchors().values().forEach(own -> shared.addAll(own.keySet()));
    return shared;
  }

  // -- what members say -----------------------------------------------------------------------------------------------

  /** Whether a gateway's configuration is signed by a federation key of its own that a quorum attests. */
  private boolean isByOwner(Statement own, Map<String, Key> federation) {
    String kid = own.jws().kid();
    Long since = revoked.get(new Pair(own.iss(), kid));
    return own.jwks().containsKey(kid)
        && federation.containsKey(kid)
        && (since == null || own.issuedAt() < since)
        && federation.get(kid).verifies(own.jws());
  }

  /** Gives the keys, by purpose, that an anchor pins and the gateway lists; none where the anchor's word fails. */
  private Map<String, Map<String, Key>> vote(Statement own, Word word) {
    Statement statement = word.statement();
    long expiresAt = Math.min(own.expiresAt(), Math.min(statement.expiresAt(), word.head().expiresAt()));
    if (!statement.jwks().containsKey(own.jws().kid()) || at >= expiresAt + charter.grace()) {
      return Map.of();
    }
    // A federation key that also signed receipts would let whoever steals it rewrite its own trust; likewise the rest.
    Map<String, Integer> uses = new HashMap<>();
    pinned(statement).forEach(kid -> uses.merge(kid, 1, Integer::sum));
    statement.jwks().keySet().forEach(kid -> uses.merge(kid, 1, Integer::sum));
    Map<String, Map<String, Key>> found = new HashMap<>();
    try {
      checkHints(own, word.anchor());
      checkConstraints(statement);
      for (String purpose : PURPOSES) {
        Map<String, Key> pinned = keySet(statement, purpose);
        Map<String, Key> both = new HashMap<>(keySet(own, purpose));
        both.keySet().removeIf(kid -> !pinned.containsKey(kid) || uses.get(kid) != 1);
        found.put(purpose, both);
      }
    } catch (Unreadable e) {
      return Map.of();
    }
    return found;
  }

  private static Map<String, Key> keySet(Statement statement, String purpose) throws Unreadable {
    JsonObject parameters = statement.metadata().objectOrEmpty(Charter.GATEWAY);
    return parameters.has(purpose) ? Key.readSet(parameters.get(purpose)) : Map.of();
  }

  /** Checks that the gateway names the anchor as a superior, or whoever is an anchor could draw it under itself. */
  private static void checkHints(Statement own, String anchor) throws Unreadable {
    List<String> hints = own.claims().strings("authority_hints", MAX_HINTS);
    for (String each : hints) {
      if (each.length() > MAX_ENTITY_ID || !ENTITY_ID.matcher(each).matches()) {
        throw new Unreadable("a superior is no entity");
      }
    }
    if (!hints.contains(anchor)) {
      throw new Unreadable("the anchor is not among the superiors");
    }
  }

  /** Checks that an anchor lets the subject have this name and be a gateway. */
  private static void checkConstraints(Statement statement) throws Unreadable {
    JsonObject constraints = statement.claims().objectOrEmpty("constraints");
    if (!CONSTRAINTS.containsAll(constraints.names())) {
      throw new Unreadable("constraints of another kind");
    }
    if (constraints.has("max_path_length")) {
      // Any will do: there is nothing between anchor and member.
      constraints.number("max_path_length", 0, JsonReader.MAX_INTEGER);
    }
    if (constraints.has("allowed_entity_types")) {
      List<String> types = constraints.strings("allowed_entity_types", MAX_NAMES);
      if (!types.contains(Charter.GATEWAY) || types.contains("federation_entity")) {
        throw new Unreadable("not allowed to be a gateway");
      }
    }
    if (constraints.has("naming_constraints")) {
      JsonObject naming = JsonObject.of(constraints.get("naming_constraints"), Set.of("permitted"));
      Matcher entity = ENTITY_ID.matcher(statement.sub());
      String host = entity.matches() ? entity.group("host") : "";
      boolean isPermitted = false;
      for (String each : naming.strings("permitted", MAX_NAMES)) {
        if (!DOMAIN.matcher(each).matches()) {
          throw new Unreadable("a naming constraint is no domain");
        }
        // The leading dot stays in the comparison, or evilsh.example would end in sh.example.
        isPermitted |= each.startsWith(".") ? host.endsWith(each) : host.equals(each);
      }
      if (!isPermitted) {
        throw new Unreadable("a name that the anchor does not permit");
      }
    }
    // What anchors write of keys that they do not pin: they take them away. Any other policy is not understood here.
    for (Object parameters : statement.claims().objectOrEmpty("metadata_policy").members().values()) {
      for (Map.Entry<String, Object> parameter : JsonObject.of(parameters).members().entrySet()) {
        JsonObject operators = JsonObject.of(parameter.getValue(), Set.of("value"));
        if (operators.get("value") != null || !parameter.getKey().endsWith("jwks")) {
          throw new Unreadable("a metadata policy of another kind");
        }
      }
    }
  }

  /**
   * Notes what members revoked, of their own keys, by a federation key that a quorum attests. Whatever else such a
   * statement says, it takes away what it can: the reading is generous. Of two revocations of one key the earlier
   * counts, and that of a compromised key is the earliest.
   */
  private void revoke(List<String> tokens, Map<String, Map<String, Key>> federation) {
    for (String token : tokens) { // as many as a bundle may have
      Jws jws;
      String member;
      Object subject;
      List<?> events;
      try {
        jws = Jws.parse(token, MAX_EVENT_STATEMENT);
        JsonObject claims = JsonReader.read(jws.payload(), JsonReader.Limits.DEFAULT);
        member = claims.text("iss", Charter.TOKEN);
        subject = claims.get("sub");
        events = claims.items("federation_registration_events", 0, MAX_REVOCATIONS);
      } catch (Unreadable e) {
        continue; // it revokes nothing
      }
      Key key = federation.getOrDefault(member, Map.of()).get(jws.kid());
      if (!jws.type().equals(EVENTS_TYPE) || !member.equals(subject) || key == null || !key.verifies(jws)) {
        continue;
      }
      for (Object each : events) {
        if (each instanceof JsonObject event
            && "revocation".equals(event.get("event"))
            && event.get("kid") instanceof String kid) {
          boolean isSuperseded = "superseded".equals(event.get("reason"));
          long since = isSuperseded && event.get("iat") instanceof Long time ? time : 0;
          revoked.merge(new Pair(member, kid), Math.min(since, Charter.MAX_TIME), Math::min);
        }
      }
    }
  }
}
