package example.recognition.evidence;

/**
 * The bundle is evidence of nothing.
 *
 * @param reason why
 * @param detail for engineers; it repeats nothing of what the bundle says
 */
public record NotProven(Flaw reason, String detail) implements Finding {}
