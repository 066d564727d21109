package example.recognition.evidence;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * The file, taken apart. Nothing in it is verified.
 *
 * @param receipt signed
 * @param entry of the log
 * @param checkpoint the signed head of the log; null: the file was made before there was one with the entry in it
 * @param inclusion the proof that the log holds the entry
 * @param cosignatures of the head
 * @param statements of anchors and members
 * @param events revocations by members
 * @param charters in their order
 */
record Bundle(
    String receipt,
    byte[] entry,
    String checkpoint,
    List<byte[]> inclusion,
    List<String> cosignatures,
    List<String> statements,
    List<String> events,
    List<String> charters) {

  private static final int MAX_BUNDLE = 33_554_432;
  private static final JsonReader.Limits LIMITS =
      new JsonReader.Limits(MAX_BUNDLE, 2, 8_192, Charter.MAX_DOCUMENT);
  private static final int MAX_ENTRY = 65_536;
  /** One for each level of the largest tree, and one. */
  private static final int MAX_PROOF = 41;
  private static final int MAX_COSIGNATURES = 64;
  private static final int MAX_STATEMENTS = 4_000;
  private static final int MAX_EVENTS = 800;
  private static final int MAX_CHARTERS = 64;
  private static final Set<String> ALWAYS =
      Set.of("format", "receipt", "entry", "statements", "events", "charters");
  private static final Set<String> IN_LOG = Set.of("checkpoint", "inclusion", "cosignatures");

  static Bundle read(byte[] raw) throws Unreadable, Refused {
    JsonObject file = JsonReader.read(raw, LIMITS);
    boolean isInLog = file.has("checkpoint");
    Set<String> names = new HashSet<>(ALWAYS);
    if (isInLog) {
      names.addAll(IN_LOG); // all or nothing: a head without a proof says nothing about the entry
    }
    JsonObject.of(file, names);
    file.number("format", 1, 1);
    if (JsonReader.isLonger(file.string("entry"), MAX_ENTRY)) {
      throw new Unreadable("the entry is over the size limit");
    }
    List<byte[]> inclusion = new ArrayList<>();
    if (isInLog) {
      for (String each : file.strings("inclusion", MAX_PROOF)) {
        inclusion.add(Base64Url.decode(each));
      }
    }
    for (byte[] each : inclusion) {
      if (each.length != Base64Url.HASH_BYTES) {
        throw new Refused(Flaw.PROOF_INVALID, "a hash has the wrong length");
      }
    }
    return new Bundle(
        file.string("receipt"),
        Base64Url.decode(file.get("entry")),
        isInLog ? file.string("checkpoint") : null,
        inclusion,
        isInLog ? file.strings("cosignatures", MAX_COSIGNATURES) : List.of(),
        file.strings("statements", MAX_STATEMENTS),
        file.strings("events", MAX_EVENTS),
        file.strings("charters", MAX_CHARTERS));
  }
}
