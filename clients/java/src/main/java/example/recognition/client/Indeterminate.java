package example.recognition.client;

import java.time.Duration;
import java.util.Optional;

/**
 * The gateway cannot tell now. Asking again later is legitimate; the person is not to be turned away.
 *
 * @param reason the one reason
 * @param reasonNumber its number in the contract, kept where the reason is {@link Reason#UNRECOGNISED}
 * @param retryAfter when asking again may help, where the gateway knows
 */
public record Indeterminate(Reason reason, int reasonNumber, Optional<Duration> retryAfter) implements Verdict {}
