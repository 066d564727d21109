package example.recognition.client;

import java.time.Instant;
import java.util.List;
import java.util.Optional;

/**
 * How a decision came about. It holds no attribute.
 *
 * @param verificationId the decision
 * @param decidedAt when it was decided
 * @param service the service that asked
 * @param matter code of the matter that it asked for
 * @param verdict accepted, rejected or indeterminate, as it was recorded: a text to show, not a verdict to act on
 * @param reason why; empty where it was accepted
 * @param reasonNumber its number in the contract, kept where the reason is {@link Reason#UNRECOGNISED}; 0: none
 * @param steps in the order in which they ran
 */
public record Explanation(
    String verificationId,
    Instant decidedAt,
    String service,
    String matter,
    String verdict,
    Optional<Reason> reason,
    int reasonNumber,
    List<ExplainedStep> steps) {}
