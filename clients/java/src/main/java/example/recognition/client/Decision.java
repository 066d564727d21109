package example.recognition.client;

import java.time.Duration;
import java.time.Instant;
import java.util.Optional;

/**
 * What a gateway decided and has on record.
 *
 * @param verdict accepted, rejected, or that it cannot tell now
 * @param verificationId names the decision; keep it with the case, and act once on it
 * @param decidedAt when it was decided
 * @param nextStep what to do now, whatever the verdict
 * @param receipt the signed receipt (compact JWS) where one was asked for; else empty
 * @param trustBasis the trust data behind it
 * @param statusBasis the status data behind it; empty where no status was looked at
 * @param requestId the request's id, as it is in the gateway's log
 * @param repeated whether this acceptance was given before, to the same question under the same request id: its answer
 *     was lost, or somebody has acted on it already
 */
public record Decision(
    Verdict verdict,
    String verificationId,
    Instant decidedAt,
    NextStep nextStep,
    String receipt,
    TrustBasis trustBasis,
    Optional<StatusBasis> statusBasis,
    String requestId,
    boolean repeated)
    implements Outcome {

  /**
   * Which trust data a decision rests on.
   *
   * @param charterVersion version of the charter
   * @param viewId identifier of the trust view
   * @param age time since a quorum of anchors last confirmed it; empty where the gateway does not tell
   * @param stale whether it is past its freshness and served within the grace that the agreement allows
   */
  public record TrustBasis(long charterVersion, String viewId, Optional<Duration> age, boolean stale) {}

  /**
   * Which status data a decision rests on.
   *
   * @param list the status list
   * @param issuedAt when the issuer signed it; empty where the gateway does not tell
   * @param age time since then; empty likewise
   */
  public record StatusBasis(String list, Optional<Instant> issuedAt, Optional<Duration> age) {}
}
