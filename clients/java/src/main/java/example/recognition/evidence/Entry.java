package example.recognition.evidence;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** An entry of a log about a verification, in its one spelling. */
final class Entry {

  /** What the entry has to say as the receipt does: the receipt's name for it, and the entry's. */
  private static final Map<String, String> REPEATED =
      Map.of(
          "aud", "service",
          "matter", "matter",
          "verdict", "verdict",
          "charter_sha256", "charter_sha256",
          "view_id", "view_id");
  private static final JsonReader.Limits LIMITS = new JsonReader.Limits(65_536, 8, 6_000, 8_192);
  private static final Set<String> MEMBERS = Set.of("format", "kind", "at", "id", "body");
  private static final Set<String> TEXTS =
      Set.of(
          "service", "caller_certificate", "matter", "verdict", "reason", "issuer", "kid", "charter_sha256", "view_id",
          "request_id", "terminal", "consent_id", "person", "actor", "replay");
  private static final Set<String> NUMBERS = Set.of("charter_version", "duration");
  private static final Set<String> LISTS = Set.of("released", "actor_released");
  private static final long MILLISECONDS = 1_000;

  private final long at;
  private final Object id;
  private final Map<String, Object> body;

  private Entry(long at, Object id, Map<String, Object> body) {
    this.at = at;
    this.id = id;
    this.body = body;
  }

  static Entry read(byte[] raw) throws Unreadable {
    JsonObject entry = JsonReader.read(raw, LIMITS);
    if (!Arrays.equals(JsonReader.utf8(JsonWriter.canonical(entry)), raw)) {
      throw new Unreadable("the entry is not in its one spelling");
    }
    JsonObject.of(entry, MEMBERS);
    entry.number("format", 1, 1);
    if (!"verification".equals(entry.get("kind"))) {
      throw new Unreadable("the entry is no verification");
    }
    Map<String, Object> body = JsonObject.of(entry.get("body")).members();
    for (Map.Entry<String, Object> member : body.entrySet()) {
      if (!fits(member.getKey(), member.getValue())) {
        throw new Unreadable("the entry says something that no verification says");
      }
    }
    return new Entry(entry.number("at", 0, MILLISECONDS * Charter.MAX_TIME) / MILLISECONDS, entry.get("id"), body);
  }

  private static boolean fits(String name, Object value) {
    return (TEXTS.contains(name) && value instanceof String)
        || (NUMBERS.contains(name) && value instanceof Long)
        || (LISTS.contains(name)
            && value instanceof List<?> items
            && items.stream().allMatch(String.class::isInstance))
        || (name.equals("findings") && value instanceof JsonObject);
  }

  /** Whether a receipt, of which the claims were read, says the same. What an entry does not say is empty, or 0. */
  boolean isThatOf(JsonObject receipt) {
    Map<String, Object> said = new HashMap<>();
    REPEATED.forEach((claim, name) -> said.put(claim, body.getOrDefault(name, "")));
    said.put("verified_at", at);
    said.put("jti", id);
    said.put("charter_version", body.getOrDefault("charter_version", 0L));
    return said.entrySet().stream().allMatch(each -> receipt.get(each.getKey()).equals(each.getValue()))
        && body.getOrDefault("reason", "").equals(receipt.members().getOrDefault("reason", ""));
  }
}
