package example.recognition.evidence;

import java.util.List;

/**
 * The gateway signed the verdict, and nothing is wrong; it could still deny it, or have made it up since. As in the
 * minutes after the verdict: ask the gateway for the evidence again.
 *
 * @param receipt what the gateway says that it decided
 * @param witnesses gateways that cosigned the head of the log with the entry in it, fewer than were asked for
 * @param inLog whether the log holds it, and only too few provinces have seen that
 */
public record Signed(Receipt receipt, List<String> witnesses, boolean inLog) implements Finding {}
