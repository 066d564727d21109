package example.recognition.evidence;

/** The check ends here: the bundle is evidence of nothing. */
final class Refused extends Exception {

  private static final long serialVersionUID = 1L;

  private final Flaw reason;

  Refused(Flaw reason, String detail) {
    super(detail, null, false, false);
    this.reason = reason;
  }

  NotProven finding() {
    return new NotProven(reason, getMessage());
  }
}
