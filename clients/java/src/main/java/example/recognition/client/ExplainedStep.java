package example.recognition.client;

import java.util.Map;
import java.util.Optional;

/**
 * One step of a verification.
 *
 * @param number its place in the order in which they ran, from 1
 * @param title what it does
 * @param outcome how it ended
 * @param inputs what it looked at, by name: issuer, key, charter version, status list. Never an attribute
 * @param reason why, where it decided
 * @param reasonNumber its number in the contract, kept where the reason is {@link Reason#UNRECOGNISED}; 0: none
 * @param meaning what that means, where it decided
 * @param fix what would mend it, for an administrator or developer, where it decided
 */
public record ExplainedStep(
    int number,
    LocalizedText title,
    StepOutcome outcome,
    Map<String, String> inputs,
    Optional<Reason> reason,
    int reasonNumber,
    Optional<LocalizedText> meaning,
    Optional<LocalizedText> fix) {

  /** How a step ended. */
  public enum StepOutcome {
    /** It found nothing to object to. */
    PASSED,
    /** It decided: not accepted. */
    FAILED,
    /** It could not tell, which decided: indeterminate. */
    UNDECIDED,
    /** An earlier step had decided. */
    NOT_REACHED,
    /** There was nothing for it to do. */
    NOT_NEEDED,
    /** Something that this version does not know. */
    UNRECOGNISED
  }
}
