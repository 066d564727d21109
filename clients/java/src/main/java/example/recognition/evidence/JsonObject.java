package example.recognition.evidence;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * A JSON object, and how its members are read.
 *
 * @param members each a JsonObject, List, String, Long, Double, Boolean or null
 */
record JsonObject(Map<String, Object> members) {

  static final JsonObject EMPTY = new JsonObject(Map.of());

  /** Takes a value for an object. */
  static JsonObject of(Object value) throws Unreadable {
    if (value instanceof JsonObject object) {
      return object;
    }
    throw new Unreadable("not an object");
  }

  /** Takes a value for an object that has exactly these members. */
  static JsonObject of(Object value, Set<String> names) throws Unreadable {
    if (value instanceof JsonObject object && object.names().equals(names)) {
      return object;
    }
    throw new Unreadable("not an object of the members that it has to have");
  }

  Set<String> names() {
    return members.keySet();
  }

  boolean has(String name) {
    return members.containsKey(name);
  }

  Object get(String name) {
    return members.get(name);
  }

  /** Gives an object that may be left out, but is nothing else. */
  JsonObject objectOrEmpty(String name) throws Unreadable {
    return has(name) ? of(get(name)) : EMPTY;
  }

  List<?> items(String name, int low, int high) throws Unreadable {
    if (get(name) instanceof List<?> items && low <= items.size() && items.size() <= high) {
      return items;
    }
    throw new Unreadable(name + " is not an array of " + low + " to " + high + " items");
  }

  List<String> strings(String name, int high) throws Unreadable {
    List<String> strings = new ArrayList<>();
    for (Object item : items(name, 0, high)) {
      if (!(item instanceof String string)) {
        throw new Unreadable(name + " is not an array of strings");
      }
      strings.add(string);
    }
    return strings;
  }

  String string(String name) throws Unreadable {
    if (get(name) instanceof String string) {
      return string;
    }
    throw new Unreadable(name + " is not a string");
  }

  String text(String name, Pattern form) throws Unreadable {
    String string = string(name);
    if (!form.matcher(string).matches()) {
      throw new Unreadable(name + " is malformed");
    }
    return string;
  }

  long number(String name, long low, long high) throws Unreadable {
    if (get(name) instanceof Long number && low <= number && number <= high) {
      return number;
    }
    throw new Unreadable(name + " is not a whole number from " + low + " to " + high);
  }

  byte[] hash(String name) throws Unreadable {
    byte[] raw = Base64Url.decode(get(name));
    if (raw.length != Base64Url.HASH_BYTES) {
      throw new Unreadable(name + " is not a SHA-256 digest");
    }
    return raw;
  }
}
