package example.recognition.evidence;

import java.math.BigDecimal;
import java.math.MathContext;
import java.math.RoundingMode;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;

/** Writes the one spelling of a JSON object: no white space, members by code point, the shortest of all fractions. */
final class JsonWriter {

  // String compares code units, by which what lies beyond the basic plane comes before the end of that.
  private static final Comparator<String> BY_CODE_POINT =
      (one, other) -> {
        int at = 0;
        while (at < one.length() && at < other.length() && one.charAt(at) == other.charAt(at)) {
          at++;
        }
        return at < one.length() && at < other.length()
            ? Integer.compare(one.codePointAt(at), other.codePointAt(at))
            : Integer.compare(one.length(), other.length());
      };
  /** Significant decimal digits that tell any two doubles apart. */
  private static final int MAX_DIGITS = 17;

  private final StringBuilder out = new StringBuilder();

  private JsonWriter() {}

  static String canonical(JsonObject object) {
    JsonWriter writer = new JsonWriter();
    writer.value(object);
    return writer.out.toString();
  }

  private void value(Object value) {
    if (value instanceof JsonObject object) {
      List<Map.Entry<String, Object>> members = new ArrayList<>(object.members().entrySet());
      members.sort(Map.Entry.comparingByKey(BY_CODE_POINT));
      out.append('{');
      for (Map.Entry<String, Object> member : members) {
        separate('{');
        string(member.getKey());
        out.append(':');
        value(member.getValue());
      }
      out.append('}');
    } else if (value instanceof List<?> items) {
      out.append('[');
      for (Object item : items) {
        separate('[');
        value(item);
      }
      out.append(']');
    } else if (value instanceof String string) {
      string(string);
    } else if (value instanceof Double fraction) {
      out.append(fraction(fraction));
    } else {
      out.append(value);
    }
  }

  private void separate(char start) {
    if (out.charAt(out.length() - 1) != start) {
      out.append(',');
    }
  }

  private void string(String string) {
    out.append('"');
    for (int at = 0; at < string.length(); at++) {
      char each = string.charAt(at);
      switch (each) {
        case '"', '\\' -> out.append('\\').append(each);
        case '\b' -> out.append("\\b");
        case '\f' -> out.append("\\f");
        case '\n' -> out.append("\\n");
        case '\r' -> out.append("\\r");
        case '\t' -> out.append("\\t");
        default -> out.append(each < ' ' ? String.format("\\u%04x", (int) each) : each);
      }
    }
    out.append('"');
  }

  /** Writes the fewest digits that are read as this number again, and of those the nearest, as Python and others do. */
  private static String fraction(double number) {
    if (number == 0) {
      return "0.0";
    }
    BigDecimal shortest = shortest(Math.abs(number)).stripTrailingZeros();
    String digits = shortest.unscaledValue().toString();
    int point = digits.length() - shortest.scale(); // how many digits stand before it
    String written;
    if (point > 16 || point <= -4) {
      String tail = digits.length() > 1 ? "." + digits.substring(1) : "";
      written = digits.charAt(0) + tail + String.format("e%s%02d", point > 0 ? "+" : "-", Math.abs(point - 1));
    } else if (point <= 0) {
      written = "0." + "0".repeat(-point) + digits;
    } else if (point >= digits.length()) {
      written = digits + "0".repeat(point - digits.length()) + ".0";
    } else {
      written = digits.substring(0, point) + "." + digits.substring(point);
    }
    return number < 0 ? "-" + written : written;
  }

  private static BigDecimal shortest(double number) {
    BigDecimal exact = new BigDecimal(number);
    for (int digits = 1; digits < MAX_DIGITS; digits++) {
      // Below a power of two the neighbours lie closer: what is nearest may be another number, what is not, this one.
      for (RoundingMode mode : List.of(RoundingMode.HALF_EVEN, RoundingMode.UP, RoundingMode.DOWN)) {
        BigDecimal rounded = exact.round(new MathContext(digits, mode));
        if (rounded.doubleValue() == number) {
          return rounded;
        }
      }
    }
    return exact.round(new MathContext(MAX_DIGITS, RoundingMode.HALF_EVEN));
  }
}
