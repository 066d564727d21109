package example.recognition.client;

/**
 * The presentation is not accepted for this matter; asking again with the same one gives the same answer.
 * It is that also where the reason is newer than this client.
 *
 * @param reason the one reason; the first failed check decides
 * @param reasonNumber its number in the contract, kept where the reason is {@link Reason#UNRECOGNISED}
 */
public record Rejected(Reason reason, int reasonNumber) implements Verdict {}
