package example.recognition.evidence;

import java.util.function.Function;

/**
 * What came of a check. {@link Proven} and {@link Signed} do not say that the credential was accepted: that is
 * {@link Receipt#verdict()}, and a refusal can be proven like an acceptance.
 */
public sealed interface Finding permits Proven, Signed, NotProven {

  /**
   * Does one thing for each finding. None can be left out, or a gateway's word would be taken for a proof.
   *
   * @param <T> what comes of it
   * @param onProven what to do where nobody can deny the verdict any more
   * @param onSigned what to do where it is one gateway's word
   * @param onNotProven what to do where the file is evidence of nothing
   * @return what the one that was called gave
   */
  default <T> T match(
      Function<? super Proven, ? extends T> onProven,
      Function<? super Signed, ? extends T> onSigned,
      Function<? super NotProven, ? extends T> onNotProven) {
    if (this instanceof Proven proven) {
      return onProven.apply(proven);
    }
    if (this instanceof Signed signed) {
      return onSigned.apply(signed);
    }
    return onNotProven.apply((NotProven) this);
  }
}
