package example.recognition.client;

import java.time.Duration;

/**
 * How long a client waits.
 *
 * @param deadline how long a call may take, all its tries together
 * @param batchDeadline how long one batch may take; of a stream, how long it may go without an answer
 */
public record Options(Duration deadline, Duration batchDeadline) {

  private static final Duration LONGEST = Duration.ofDays(366);

  /** Ten seconds for a call and a minute for a batch. */
  public static final Options DEFAULT = new Options(Duration.ofSeconds(10), Duration.ofSeconds(60));

  /**
   * Checks that there is time at all, and that it ends.
   *
   * @throws IllegalArgumentException a deadline is zero, negative or longer than a year
   */
  public Options {
    check(deadline);
    check(batchDeadline);
  }

  private static void check(Duration deadline) {
    if (deadline.isZero() || deadline.isNegative() || deadline.compareTo(LONGEST) > 0) {
      throw new IllegalArgumentException("a deadline must be longer than nothing and at most a year: " + deadline);
    }
  }

  /**
   * Changes how long a call may take.
   *
   * @param value the deadline
   * @return the same with it
   * @throws IllegalArgumentException it is zero, negative or longer than a year
   */
  public Options withDeadline(Duration value) {
    return new Options(value, batchDeadline);
  }

  /**
   * Changes how long a batch may take.
   *
   * @param value the deadline
   * @return the same with it
   * @throws IllegalArgumentException it is zero, negative or longer than a year
   */
  public Options withBatchDeadline(Duration value) {
    return new Options(deadline, value);
  }
}
