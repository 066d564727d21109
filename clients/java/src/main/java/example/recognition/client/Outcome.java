package example.recognition.client;

/** What became of one of many: a {@link Decision}, or a {@link Failure}, which is none. */
public sealed interface Outcome permits Decision, Failure {

  /**
   * Tells what it was asked under.
   *
   * @return the request's id
   */
  String requestId();
}
