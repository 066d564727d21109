package example.recognition.evidence;

import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Reads JSON strictly (RFC 8259): no member twice, no number that programs disagree about, no text that is no Unicode,
 * and nothing past its bounds.
 */
final class JsonReader {

  /**
   * What JSON may have at most.
   *
   * @param size bytes
   * @param depth arrays and objects in one another, the outermost included
   * @param members of all arrays and objects together
   * @param string characters
   */
  record Limits(int size, int depth, int members, int string) {

    static final Limits DEFAULT = new Limits(65_536, 16, 2_000, 8_192);
  }

  /** The largest that every JSON reader agrees on (RFC 8259 section 6). */
  static final long MAX_INTEGER = (1L << 53) - 1;

  private static final int MAX_INTEGER_CHARS = 17;
  /** Possessive, or a long number would be a deep recursion. */
  private static final Pattern NUMBER =
      Pattern.compile("-?+(?:0|[1-9][0-9]*+)(\\.[0-9]++)?+([eE][-+]?+[0-9]++)?+");

  private final String text;
  private final Limits limits;
  private int at;
  private int members;

  private JsonReader(String text, Limits limits) {
    this.text = text;
    this.limits = limits;
  }

  /** Reads one object. */
  static JsonObject read(byte[] raw, Limits limits) throws Unreadable {
    if (raw.length > limits.size()) {
      throw new Unreadable("JSON over the size limit");
    }
    String text;
    try {
      text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(raw)).toString();
    } catch (CharacterCodingException e) {
      throw new Unreadable("JSON is not UTF-8");
    }
    JsonReader reader = new JsonReader(text, limits);
    Object value = reader.value(1);
    reader.skipSpace();
    if (reader.at != text.length()) {
      throw new Unreadable("something after the JSON");
    }
    return JsonObject.of(value);
  }

  /** Writes text as UTF-8, if it is Unicode. */
  static byte[] utf8(String text) throws Unreadable {
    try {
      ByteBuffer encoded = StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(text));
      byte[] raw = new byte[encoded.remaining()];
      encoded.get(raw);
      return raw;
    } catch (CharacterCodingException e) {
      throw new Unreadable("text is no Unicode");
    }
  }

  /** Whether text has more characters than so many. */
  static boolean isLonger(String text, int limit) {
    return text.length() > limit && text.codePointCount(0, text.length()) > limit;
  }

  private Object value(int depth) throws Unreadable {
    skipSpace();
    switch (peek()) {
      case '{':
        return object(depth);
      case '[':
        return array(depth);
      case '"':
        return string();
      case 't':
        return literal("true", true);
      case 'f':
        return literal("false", false);
      case 'n':
        return literal("null", null);
      default:
        return number();
    }
  }

  private JsonObject object(int depth) throws Unreadable {
    enter(depth);
    Map<String, Object> found = new LinkedHashMap<>();
    for (boolean isMore = !closes('}'); isMore; isMore = isContinued('}')) {
      skipSpace();
      if (peek() != '"') {
        throw notJson();
      }
      String name = string();
      skipSpace();
      expect(':');
      count();
      if (found.containsKey(name)) {
        throw new Unreadable("a JSON member appears twice");
      }
      found.put(name, value(depth + 1));
    }
    return new JsonObject(found);
  }

  private List<Object> array(int depth) throws Unreadable {
    enter(depth);
    List<Object> found = new ArrayList<>();
    for (boolean isMore = !closes(']'); isMore; isMore = isContinued(']')) {
      count();
      found.add(value(depth + 1));
    }
    return found;
  }

  private void enter(int depth) throws Unreadable {
    if (depth > limits.depth()) {
      throw new Unreadable("JSON nested too deeply");
    }
    at++;
  }

  private void count() throws Unreadable {
    if (++members > limits.members()) {
      throw new Unreadable("too many JSON members");
    }
  }

  private boolean closes(char end) throws Unreadable {
    skipSpace();
    if (peek() != end) {
      return false;
    }
    at++;
    return true;
  }

  private boolean isContinued(char end) throws Unreadable {
    if (closes(end)) {
      return false;
    }
    expect(',');
    return true;
  }

  private String string() throws Unreadable {
    at++;
    StringBuilder found = new StringBuilder();
    for (char next = take(); next != '"'; next = take()) {
      if (next < ' ') {
        throw notJson();
      }
      found.append(next == '\\' ? escaped() : next);
    }
    String string = found.toString();
    if (isLonger(string, limits.string())) {
      throw new Unreadable("JSON string over the size limit");
    }
    // Half of a surrogate pair can stand in an escape only.
    if (string.codePoints().anyMatch(each -> Character.MIN_SURROGATE <= each && each <= Character.MAX_SURROGATE)) {
      throw new Unreadable("text is no Unicode");
    }
    return string;
  }

  private char escaped() throws Unreadable {
    char next = take();
    switch (next) {
      case '"', '\\', '/':
        return next;
      case 'b':
        return '\b';
      case 'f':
        return '\f';
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'u':
        int unit = 0;
        for (int digit = 0; digit < 4; digit++) {
          char hex = take();
          int value = hex < 0x80 ? Character.digit(hex, 16) : -1; // other scripts have digits as well
          if (value < 0) {
            throw notJson();
          }
          unit = unit * 16 + value;
        }
        return (char) unit;
      default:
        throw notJson();
    }
  }

  private Object number() throws Unreadable {
    Matcher matcher = NUMBER.matcher(text).region(at, text.length());
    if (!matcher.lookingAt()) {
      throw notJson();
    }
    at = matcher.end();
    String found = matcher.group();
    if (matcher.group(1) == null && matcher.group(2) == null) {
      // The length first, so that it fits.
      if (found.length() > MAX_INTEGER_CHARS || found.equals("-0") || Math.abs(Long.parseLong(found)) > MAX_INTEGER) {
        throw new Unreadable("integer out of range, or negative zero");
      }
      return Long.valueOf(found);
    }
    double number = Double.parseDouble(found);
    if (Double.isInfinite(number) || (number == 0 && found.startsWith("-"))) {
      throw new Unreadable("number is not finite, or negative zero");
    }
    return number;
  }

  private Object literal(String word, Object value) throws Unreadable {
    if (!text.startsWith(word, at)) {
      throw notJson();
    }
    at += word.length();
    return value;
  }

  private void skipSpace() {
    while (at < text.length() && " \t\n\r".indexOf(text.charAt(at)) >= 0) {
      at++;
    }
  }

  private char peek() throws Unreadable {
    if (at == text.length()) {
      throw notJson();
    }
    return text.charAt(at);
  }

  private char take() throws Unreadable {
    char next = peek();
    at++;
    return next;
  }

  private void expect(char wanted) throws Unreadable {
    if (take() != wanted) {
      throw notJson();
    }
  }

  private static Unreadable notJson() {
    return new Unreadable("not strict JSON");
  }
}
