package example.recognition.client;

import java.time.Instant;

/**
 * What a holder's app signs into one presentation.
 *
 * @param nonce to be handed on unchanged; good once
 * @param audience to be handed on unchanged: the identifier of the calling service
 * @param expiresAt when the challenge lapses
 */
public record Challenge(String nonce, String audience, Instant expiresAt) {

  /** Leaves the nonce out. */
  @Override
  public String toString() {
    return "Challenge[audience=" + audience + ", expiresAt=" + expiresAt + "]";
  }
}
