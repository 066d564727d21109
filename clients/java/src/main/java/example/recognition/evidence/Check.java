package example.recognition.evidence;

import java.io.IOException;
import java.io.InputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.time.DateTimeException;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Locale;

/** Checks a bundle from the command line, and says in plain words what came of it. */
public final class Check {

  private static final String USAGE =
      "usage: java -cp JAR example.recognition.evidence.Check BUNDLE CHARTER SHA256 [--witnesses 1|2|3] [--now TIME]\n"
          + "BUNDLE and CHARTER are files, SHA256 is the digest of the charter as the provinces announced it.\n"
          + "TIME is such as 2026-11-29T08:00:00Z; without it, the clock of this machine counts.";
  private static final int PROVEN = 0;
  private static final int NOT_PROVEN = 1;
  private static final int SIGNED = 2;
  private static final int NOT_CHECKED = 3;
  /** Of either file: more than a bundle may have. */
  private static final int MAX_BYTES = 33_554_433;

  private Check() {}

  /**
   * Checks a bundle.
   *
   * @param args two files, the charter's digest, and options
   */
  public static void main(String[] args) {
    System.exit(run(args, System.out, System.err));
  }

  /** Gives the exit code: 0 proven, 1 not proven, 2 signed only, 3 nothing was checked. */
  static int run(String[] args, PrintStream out, PrintStream err) {
    List<String> given = new ArrayList<>();
    int witnesses = 1;
    Instant now = Instant.now();
    Deque<String> rest = new ArrayDeque<>(List.of(args));
    try {
      while (!rest.isEmpty()) {
        String next = rest.pop();
        switch (next) {
          case "--witnesses" -> witnesses = Integer.parseInt(rest.isEmpty() ? "" : rest.pop());
          case "--now" -> now = Instant.parse(rest.isEmpty() ? "" : rest.pop());
          default -> given.add(next);
        }
      }
    } catch (NumberFormatException | DateTimeException e) {
      err.println(USAGE);
      return NOT_CHECKED;
    }
    if (given.size() != 3 || witnesses < 1 || witnesses > 3 || given.stream().anyMatch(each -> each.startsWith("--"))) {
      err.println(USAGE);
      return NOT_CHECKED;
    }
    byte[] bundle;
    String charter;
    try {
      bundle = read(given.get(0));
      charter = new String(read(given.get(1)), StandardCharsets.UTF_8);
    } catch (IOException | InvalidPathException e) {
      err.println("cannot be read: " + e.getMessage());
      return NOT_CHECKED;
    }
    return say(Evidence.check(bundle, charter, given.get(2), witnesses, now), witnesses, out);
  }

  private static byte[] read(String file) throws IOException {
    try (InputStream in = Files.newInputStream(Path.of(file))) {
      return in.readNBytes(MAX_BYTES);
    }
  }

  private static int say(Finding finding, int needed, PrintStream out) {
    return finding.match(
        proven -> {
          out.println("PROVEN: " + verdict(proven.receipt()) + ". Nobody can deny it, or have made it up since.");
          say(proven.receipt(), out);
          out.println("  seen by       " + String.join(", ", proven.witnesses()));
          out.println("  in a log of   " + proven.logSize() + " entries, whose head was signed " + proven.loggedAt());
          return PROVEN;
        },
        signed -> {
          out.println("SIGNED ONLY: " + verdict(signed.receipt()) + ". One gateway's word, which it could still deny.");
          say(signed.receipt(), out);
          out.println(
              signed.inLog()
                  ? "  seen by       " + signed.witnesses().size() + " other provinces; " + needed + " are asked for"
                  : "  in the log    not yet");
          out.println("Fetch the evidence again in a minute.");
          return SIGNED;
        },
        notProven -> {
          out.println("NOT PROVEN. The file is evidence of nothing.");
          out.println("  why           " + notProven.reason() + ": " + notProven.detail());
          return NOT_PROVEN;
        });
  }

  private static String verdict(Receipt receipt) {
    String verdict = receipt.verdict().name().toLowerCase(Locale.ROOT);
    return "the verdict was " + verdict + receipt.reason().map(reason -> " (" + reason + ")").orElse("");
  }

  private static void say(Receipt receipt, PrintStream out) {
    out.println("  decided       " + receipt.verifiedAt() + " by " + receipt.gateway());
    out.println("  for           " + receipt.service() + ", matter " + receipt.matter());
    out.println("  verification  " + receipt.verificationId());
    out.println("  in the log    " + receipt.log() + ", position " + receipt.position());
  }
}
