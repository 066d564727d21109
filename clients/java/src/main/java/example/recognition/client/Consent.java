package example.recognition.client;

import java.time.Instant;

/**
 * A consent on record.
 *
 * @param id to be named in requests that rest on it; keep it with the signed document
 * @param expiresAt when it lapses
 */
public record Consent(String id, Instant expiresAt) {

  /** Leaves the id out: whoever has it can rest a request on it. */
  @Override
  public String toString() {
    return "Consent[expiresAt=" + expiresAt + "]";
  }
}
