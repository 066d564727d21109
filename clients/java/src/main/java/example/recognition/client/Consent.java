package example.recognition.client;

import java.time.Instant;
import java.util.Optional;

/**
 * A consent on record.
 *
 * @param id to be named in requests that rest on it; keep it with the signed document
 * @param expiresAt when it lapses; empty where the gateway does not tell
 */
public record Consent(String id, Optional<Instant> expiresAt) {

  /** Leaves the id out: whoever has it can rest a request on it. */
  @Override
  public String toString() {
    return "Consent[expiresAt=" + expiresAt.map(Instant::toString).orElse("not said") + "]";
  }
}
