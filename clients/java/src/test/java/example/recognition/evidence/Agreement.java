package example.recognition.evidence;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;

/**
 * Answers questions from a file, one in a line, so that another program can hold its own answers against these.
 *
 * <p>{@code check BUNDLE CHARTER SHA256 WITNESSES NOW}, the first two files in the folder of the questions; {@code json
 * HEX}; {@code base64url HEX}. Separated by tabs, and "-" is nothing.
 */
final class Agreement {

  private static final JsonReader.Limits LIMITS = new JsonReader.Limits(200, 3, 12, 8);

  private Agreement() {}

  public static void main(String[] args) throws IOException {
    Path questions = Path.of(args[0]);
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    for (String question : Files.readAllLines(questions)) {
      String[] words = question.split("\t", -1);
      switch (words[0]) {
        case "check" -> out.println(finding(words, questions.getParent()));
        case "json" -> out.println(json(HexFormat.of().parseHex(words[1])));
        case "base64url" -> out.println(base64Url(HexFormat.of().parseHex(words[1])));
        default -> throw new IllegalArgumentException("unknown question");
      }
    }
  }

  private static String finding(String[] words, Path folder) throws IOException {
    byte[] bundle = Files.readAllBytes(folder.resolve(words[1]));
    String charter = Files.readString(folder.resolve(words[2]));
    String pin = words[3].equals("-") ? null : words[3];
    int witnesses = Integer.parseInt(words[4]);
    Finding finding =
        words[5].equals("-")
            ? Evidence.check(bundle, charter, pin, witnesses)
            : Evidence.check(bundle, charter, pin, witnesses, Instant.ofEpochSecond(Long.parseLong(words[5])));
    return finding.match(
        proven ->
            say("Proven", said(proven.receipt()), seen(proven.witnesses()), proven.logSize(), time(proven.loggedAt())),
        signed -> say("Signed", said(signed.receipt()), seen(signed.witnesses()), signed.inLog()),
        notProven -> say("NotProven", notProven.reason()));
  }

  private static String said(Receipt receipt) {
    return say(
        receipt.gateway(),
        receipt.province(),
        receipt.service(),
        receipt.verificationId(),
        time(receipt.verifiedAt()),
        time(receipt.issuedAt()),
        receipt.matter(),
        receipt.verdict().name().toLowerCase(Locale.ROOT),
        receipt.reason().orElse("-"),
        receipt.charterVersion(),
        receipt.charterSha256(),
        receipt.viewId(),
        receipt.log(),
        receipt.position());
  }

  private static String seen(List<String> witnesses) {
    return String.join(",", witnesses);
  }

  private static long time(Instant instant) {
    return instant.getEpochSecond();
  }

  private static String say(Object... words) {
    return String.join("\t", List.of(words).stream().map(String::valueOf).toList());
  }

  private static String json(byte[] raw) {
    try {
      return JsonWriter.canonical(JsonReader.read(raw, LIMITS));
    } catch (Unreadable e) {
      return "-";
    }
  }

  private static String base64Url(byte[] text) {
    try {
      return HexFormat.of().formatHex(Base64Url.decode(new String(text, StandardCharsets.UTF_8)));
    } catch (Unreadable e) {
      return "-";
    }
  }
}
