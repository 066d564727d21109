package example.recognition.client;

import java.util.function.Function;

/**
 * Accepted, rejected, or that the gateway cannot tell now. There is no fourth, and no way to ask for one of them that
 * says nothing about the others: {@link #match} wants all three.
 */
public sealed interface Verdict permits Accepted, Rejected, Indeterminate {

  /**
   * Does one thing for each verdict.
   *
   * @param <T> what comes of it
   * @param onAccepted what to do where the presentation is accepted for this matter
   * @param onRejected what to do where it is not, which will not change
   * @param onIndeterminate what to do where the gateway cannot tell; the person is not to be turned away
   * @return what the one that was called gave
   */
  default <T> T match(
      Function<? super Accepted, ? extends T> onAccepted,
      Function<? super Rejected, ? extends T> onRejected,
      Function<? super Indeterminate, ? extends T> onIndeterminate) {
    if (this instanceof Accepted accepted) {
      return onAccepted.apply(accepted);
    }
    if (this instanceof Rejected rejected) {
      return onRejected.apply(rejected);
    }
    return onIndeterminate.apply((Indeterminate) this);
  }
}
