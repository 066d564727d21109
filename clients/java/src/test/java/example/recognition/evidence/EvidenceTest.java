package example.recognition.evidence;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The parts. That whole bundles are judged as the Python client judges them is tested from Python. */
class EvidenceTest {

  private static final JsonReader.Limits LIMITS = new JsonReader.Limits(100, 2, 5, 8);
  private static final Receipt RECEIPT =
      new Receipt(
          "https://gateway.ah.mrg.example",
          "ah",
          "https://gateway.ah.mrg.example/services/court",
          "mK2pQ7hTz0yV5sXa9bRw3g",
          Instant.EPOCH,
          Instant.EPOCH,
          "HK-QY",
          Receipt.Verdict.REJECTED,
          Optional.of("EXPIRED"),
          1,
          "A".repeat(43),
          "view",
          "verdicts",
          17);

  // -- answers --------------------------------------------------------------------------------------------------------

  @Test
  void eachFindingIsMatchedAsItself() {
    var findings =
        List.of(
            new Proven(RECEIPT, List.of("w"), 30, Instant.EPOCH),
            new Signed(RECEIPT, List.of(), false),
            new NotProven(Flaw.MALFORMED, "rubbish"));
    var names = new ArrayList<String>();
    for (Finding finding : findings) {
      names.add(finding.match(proven -> "proven", signed -> "signed", notProven -> "not proven"));
    }
    assertEquals(List.of("proven", "signed", "not proven"), names);
  }

  @Test
  void whatIsPrintedDoesNotSayWhichCaseItIsAbout() {
    var printed = new Proven(RECEIPT, List.of("w"), 30, Instant.EPOCH).toString();
    for (String secret : List.of(RECEIPT.verificationId(), RECEIPT.service(), RECEIPT.matter())) {
      assertFalse(printed.contains(secret), printed);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "[]", "{}", "{\"format\":1}", "\u0000", "{\"receipt\":\"1101\"}"})
  void rubbishIsEvidenceOfNothing(String bundle) {
    var found = Evidence.check(bundle.getBytes(StandardCharsets.UTF_8), "{}", null, 1);
    assertTrue(found instanceof NotProven notProven && notProven.reason() == Flaw.MALFORMED, found.toString());
    assertFalse(found.toString().contains("1101"), found.toString());
  }

  @Test
  void whatIsAskedWronglyIsNoFinding() {
    for (int witnesses : new int[] {0, 4}) {
      assertThrows(IllegalArgumentException.class, () -> Evidence.check(new byte[0], "{}", null, witnesses));
    }
  }

  @Test
  void theCommandChecksNothingWhenItIsCalledWrongly() {
    var out = new ByteArrayOutputStream();
    var err = new ByteArrayOutputStream();
    var code = Check.run(new String[] {"--witnesses"}, new PrintStream(out), new PrintStream(err));
    assertEquals(3, code);
    assertEquals(0, out.size());
    assertTrue(err.toString(StandardCharsets.UTF_8).startsWith("usage"));
  }

  // -- the log --------------------------------------------------------------------------------------------------------

  @Test
  void aProofLeadsToTheRootOfItsLength() {
    byte[][] leaves = new byte[5][];
    for (int number = 0; number < leaves.length; number++) {
      leaves[number] = Base64Url.digest(new byte[] {0}, new byte[] {(byte) number});
    }
    byte[] left = node(node(leaves[0], leaves[1]), node(leaves[2], leaves[3]));
    byte[] root = node(left, leaves[4]);
    assertArrayEquals(root, Evidence.root(leaves[4], 4, 5, List.of(left)));
    var proof = List.of(leaves[3], node(leaves[0], leaves[1]), leaves[4]);
    assertArrayEquals(root, Evidence.root(leaves[2], 2, 5, proof));
    assertNull(Evidence.root(leaves[2], 2, 5, proof.subList(1, 3)));
    assertNull(Evidence.root(leaves[4], 4, 5, List.of(left, left)));
    assertArrayEquals(leaves[0], Evidence.root(leaves[0], 0, 1, List.of()));
    assertNull(Evidence.root(leaves[0], 0, 1, List.of(left)));
  }

  private static byte[] node(byte[] left, byte[] right) {
    return Base64Url.digest(new byte[] {1}, left, right);
  }

  // -- JSON -----------------------------------------------------------------------------------------------------------

  @ParameterizedTest
  @ValueSource(
      strings = {
        "", "[]", "\"a\"", "{} {}", "{,}", "{\"a\":1,}", "{\"a\":[1,]}", "{'a':1}", "{\"a\":01}", "{\"a\":1.}",
        "{\"a\":-0}", "{\"a\":-0.0}", "{\"a\":1e999}", "{\"a\":NaN}", "{\"a\":9007199254740992}", "{\"a\":tru}",
        "{\"a\":\"\\ud800\"}", "{\"a\":\"\\x\"}", "{\"a\":\"\t\"}", "{\"a\":1,\"\\u0061\":2}", "\ufeff{}",
        "{\"a\":[[1]]}", "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6}", "{\"a\":\"123456789\"}", "{\"a\":\"\\u\uff11000\"}"
      })
  void whatIsNotStrictJsonOrTooMuchIsRefused(String text) {
    assertThrows(Unreadable.class, () -> read(text));
  }

  @Test
  void jsonIsReadAndWrittenInOneSpelling() throws Exception {
    var object = read(" {\"\uff5e\":[1e2,-7,null], \"\\ud83d\\ude00\":\"\\u0001\\/\\n\"} ");
    assertEquals("{\"\uff5e\":[100.0,-7,null],\"\ud83d\ude00\":\"\\u0001/\\n\"}", JsonWriter.canonical(object));
    assertEquals("{\"\":{},\"a\":true,\"b\":1e-07}", JsonWriter.canonical(read("{\"b\":1E-7,\"a\":true,\"\":{}}")));
  }

  @Test
  void whatIsLongOrDeepIsNoTrouble() throws Exception {
    var large = new JsonReader.Limits(2_000_000, 3, 10, 10);
    var digits = "1".repeat(1_000_000);
    assertEquals("{\"a\":0." + "1".repeat(16) + "}", JsonWriter.canonical(
        JsonReader.read(("{\"a\":0." + digits + "}").getBytes(StandardCharsets.UTF_8), large)));
    for (String text : List.of("{\"a\":" + digits + "}", "[".repeat(1_000_000), "{\"a\":".repeat(300_000))) {
      assertThrows(Unreadable.class, () -> JsonReader.read(text.getBytes(StandardCharsets.UTF_8), large));
    }
  }

  @Test
  void textIsUnicode() {
    assertThrows(Unreadable.class, () -> JsonReader.utf8("\ud800"));
    for (byte[] raw : List.of(new byte[] {'{', (byte) 0xff, '}'}, new byte[] {'"', (byte) 0xc0, (byte) 0x80, '"'})) {
      assertThrows(Unreadable.class, () -> JsonReader.read(raw, LIMITS));
    }
  }

  private static JsonObject read(String text) throws Unreadable {
    return JsonReader.read(text.getBytes(StandardCharsets.UTF_8), LIMITS);
  }

  // -- base64url and signatures ---------------------------------------------------------------------------------------

  @Test
  void base64UrlHasOneSpelling() throws Exception {
    assertArrayEquals(new byte[] {0, 1, (byte) 0xfb}, Base64Url.decode("AAH7"));
    assertArrayEquals(new byte[0], Base64Url.decode(""));
    for (String text : List.of("AB", "AA==", "A", "AA+/", "AAH7 ", "AAH7\n", "\u00e9")) {
      assertThrows(Unreadable.class, () -> Base64Url.decode(text));
    }
    assertThrows(Unreadable.class, () -> Base64Url.decode(7L));
  }

  /** RFC 8037, appendix A. */
  @Test
  void anEd25519SignatureHoldsForItsDocumentOnly() throws Exception {
    var key = key("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\","
        + "\"kid\":\"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k\"}");
    var signature = Base64Url.decode(
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg");
    var signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc".getBytes(StandardCharsets.US_ASCII);
    assertTrue(key.verifies(new Jws("Ed25519", "", "", signed, signed, signature)));
    assertFalse(key.verifies(new Jws("ES256", "", "", signed, signed, signature)));
    assertFalse(key.verifies(new Jws("Ed25519", "", "", signed, new byte[0], signature)));
    var longer = new byte[signature.length + 1]; // Java 17 by itself overlooks what follows
    System.arraycopy(signature, 0, longer, 0, signature.length);
    assertFalse(key.verifies(new Jws("Ed25519", "", "", signed, signed, longer)));
  }

  @Test
  void noughtsAreNoSignatureOfAnything() throws Exception {
    // The point that everything on P-256 is reckoned from.
    var x = "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY";
    var y = "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU";
    var members = "\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" + x + "\",\"y\":\"" + y + "\"";
    var kid = Base64Url.sha256(("{" + members + "}").getBytes(StandardCharsets.US_ASCII));
    var key = key("{" + members + ",\"kid\":\"" + kid + "\"}");
    for (int length : new int[] {0, 63, 64, 65}) {
      assertFalse(key.verifies(new Jws("ES256", "", "", new byte[0], new byte[0], new byte[length])));
    }
    assertThrows(Unreadable.class, () -> key("{" + members + ",\"kid\":\"" + x + "\"}"));
    assertThrows(Unreadable.class, () -> key("{" + members + ",\"kid\":\"" + kid + "\",\"d\":\"AAAA\"}"));
    var beside = members.replace(y, x);
    var name = Base64Url.sha256(("{" + beside + "}").getBytes(StandardCharsets.US_ASCII));
    assertThrows(Unreadable.class, () -> key("{" + beside + ",\"kid\":\"" + name + "\"}"));
  }

  private static Key key(String jwk) throws Unreadable {
    var set = "{\"keys\":[" + jwk + "]}";
    return Key.readSet(JsonReader.read(set.getBytes(StandardCharsets.UTF_8), JsonReader.Limits.DEFAULT))
        .values()
        .iterator()
        .next();
  }
}
