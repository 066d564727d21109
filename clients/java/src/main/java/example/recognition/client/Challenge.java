package example.recognition.client;

import java.time.Instant;
import java.util.Optional;

/**
 * What a holder's app signs into one presentation.
 *
 * @param nonce to be handed on unchanged; good once
 * @param audience to be handed on unchanged: the identifier of the calling service
 * @param expiresAt when the challenge lapses; empty where the gateway does not tell
 */
public record Challenge(String nonce, String audience, Optional<Instant> expiresAt) {

  /** Leaves the nonce out. */
  @Override
  public String toString() {
    return "Challenge[audience=" + audience + ", expiresAt=" + expiresAt.map(Instant::toString).orElse("not said") + "]";
  }
}
