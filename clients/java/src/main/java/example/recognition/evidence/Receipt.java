package example.recognition.evidence;

import java.time.Instant;
import java.util.Optional;

/**
 * What a gateway says that it decided.
 *
 * @param gateway entity identifier of the gateway
 * @param province the gateway's: sh, js, zj or ah
 * @param service the relying service that asked
 * @param verificationId of the verification
 * @param verifiedAt when it was decided
 * @param issuedAt when the receipt was signed
 * @param matter code of the matter
 * @param verdict what was decided
 * @param reason a name of {@code recognition.v1.Reason} without its prefix, newer ones than this client's included;
 *     empty exactly when accepted
 * @param charterVersion of the charter by which it was decided. One older than the pinned one is the gateway's word
 *     alone
 * @param charterSha256 digest of that charter's payload, base64url
 * @param viewId of the trust documents by which it was decided
 * @param log name of the log
 * @param position of the entry in the log, from 0
 */
public record Receipt(
    String gateway,
    String province,
    String service,
    String verificationId,
    Instant verifiedAt,
    Instant issuedAt,
    String matter,
    Verdict verdict,
    Optional<String> reason,
    int charterVersion,
    String charterSha256,
    String viewId,
    String log,
    long position) {

  /** What came of a verification. */
  public enum Verdict {
    /** The presentation was accepted for the matter. */
    ACCEPTED,
    /** It was not. */
    REJECTED,
    /** The gateway could not tell. */
    INDETERMINATE
  }

  /** Leaves out by what a case could be found: service, matter and verification. */
  @Override
  public String toString() {
    return "Receipt[gateway=" + gateway + ", verdict=" + verdict + ", reason=" + reason.orElse("")
        + ", log=" + log + ", position=" + position + "]";
  }
}
