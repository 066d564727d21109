package example.recognition.evidence;

import java.time.Instant;
import java.util.List;

/**
 * The verdict is in the gateway's log, and as many other provinces as were asked for have seen that log.
 *
 * @param receipt what the gateway decided
 * @param witnesses gateways that cosigned the head of the log with the entry in it, one for each other province
 * @param logSize entries of the log in the head that they saw
 * @param loggedAt when the gateway signed that head
 */
public record Proven(Receipt receipt, List<String> witnesses, long logSize, Instant loggedAt) implements Finding {}
