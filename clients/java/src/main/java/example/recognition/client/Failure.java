package example.recognition.client;

/**
 * There is no decision on one of many. It is never a rejection: what was presented is as good as before.
 *
 * @param error why
 */
public record Failure(RecognitionException error) implements Outcome {

  @Override
  public String requestId() {
    return error.requestId();
  }
}
