package example.recognition.evidence;

/** A document is not what it has to be. The text is for engineers and repeats nothing of the document. */
final class Unreadable extends Exception {

  private static final long serialVersionUID = 1L;

  Unreadable(String message) {
    super(message, null, false, false);
  }
}
