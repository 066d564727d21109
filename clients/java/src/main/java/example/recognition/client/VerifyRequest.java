package example.recognition.client;

import example.recognition.v1.VerifyCredentialRequest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Objects;

/**
 * A presentation, and what is asked about it. An empty text, or null, means that there is none. Matter and presentation
 * must be there; that, and whether it can be sent, is looked at when it is asked.
 *
 * <pre>{@code
 * var request = VerifyRequest.of("HK-QY", presentation).withNonce(challenge.nonce()).withTerminal("window-3");
 * }</pre>
 *
 * @param matter code of the matter (政务服务事项) that the answer is for
 * @param presentation what the person handed over: a credential with key binding, or an identity assertion; at most
 *     64 KiB. A larger one is rejected, and a request over 256 KiB is not sent at all
 * @param nonce of the challenge that the presentation answers; an assertion has none
 * @param requestId names this one question for all its tries; where there is none, the client makes one for each call.
 *     See {@link #withRequestId}
 * @param consentId the consent that this rests on
 * @param predicates questions to be answered yes or no, at most 8
 * @param terminal the caller's name of the counter or operator, at most 64 characters of A-Z a-z 0-9 . _ - that say
 *     nothing about the person
 * @param wantReceipt whether the gateway is to sign a receipt
 */
public record VerifyRequest(
    String matter,
    String presentation,
    String nonce,
    String requestId,
    String consentId,
    List<Predicate> predicates,
    String terminal,
    boolean wantReceipt) {

  /** Takes null for no text: of many requests, one with a gap then fails alone, and when it is asked. */
  public VerifyRequest {
    matter = Objects.requireNonNullElse(matter, "");
    presentation = Objects.requireNonNullElse(presentation, "");
    nonce = Objects.requireNonNullElse(nonce, "");
    requestId = Objects.requireNonNullElse(requestId, "");
    consentId = Objects.requireNonNullElse(consentId, "");
    terminal = Objects.requireNonNullElse(terminal, "");
    predicates = predicates == null ? List.of() : Collections.unmodifiableList(new ArrayList<>(predicates));
  }

  /**
   * Asks about a presentation, and nothing else.
   *
   * @param matter code of the matter
   * @param presentation what the person handed over
   * @return the request
   */
  public static VerifyRequest of(String matter, String presentation) {
    return new VerifyRequest(matter, presentation, "", "", "", List.of(), "", false);
  }

  /**
   * Names the challenge that the presentation answers.
   *
   * @param value its nonce
   * @return the same with it
   */
  public VerifyRequest withNonce(String value) {
    return new VerifyRequest(matter, presentation, value, requestId, consentId, predicates, terminal, wantReceipt);
  }

  /**
   * Names the question, so that it can be asked again when its answer was lost, also by another process. Within a minute,
   * the gateway gives the same acceptance to the same question under the same name ({@link Decision#repeated}). The name
   * gets into the gateway's log.
   *
   * <p>So it is never the number of a case, nor anything that whoever presents can guess or bring: that acceptance would
   * be given to them too. Keep the number of the case beside {@link Decision#verificationId} instead.
   *
   * @param value random, made anew for each question; at most 64 characters of A-Z a-z 0-9 . _ -
   * @return the same with it
   */
  public VerifyRequest withRequestId(String value) {
    return new VerifyRequest(matter, presentation, nonce, value, consentId, predicates, terminal, wantReceipt);
  }

  /**
   * Names the consent that this rests on.
   *
   * @param value its id
   * @return the same with it
   */
  public VerifyRequest withConsentId(String value) {
    return new VerifyRequest(matter, presentation, nonce, requestId, value, predicates, terminal, wantReceipt);
  }

  /**
   * Asks questions, in the place of any that were asked.
   *
   * @param values at most 8
   * @return the same with them
   */
  public VerifyRequest withPredicates(Predicate... values) {
    return new VerifyRequest(matter, presentation, nonce, requestId, consentId, Arrays.asList(values), terminal, wantReceipt);
  }

  /**
   * Says where it is asked from.
   *
   * @param value name of the counter or operator
   * @return the same with it
   */
  public VerifyRequest withTerminal(String value) {
    return new VerifyRequest(matter, presentation, nonce, requestId, consentId, predicates, value, wantReceipt);
  }

  /**
   * Asks for a signed receipt.
   *
   * @return the same with it
   */
  public VerifyRequest withReceipt() {
    return new VerifyRequest(matter, presentation, nonce, requestId, consentId, predicates, terminal, true);
  }

  /** Leaves out what is secret or about the person. */
  @Override
  public String toString() {
    return "VerifyRequest[matter=" + matter + ", requestId=" + requestId + ", predicates=" + predicates
        + ", terminal=" + terminal + ", wantReceipt=" + wantReceipt + "]";
  }

  /**
   * Writes it for the gateway; see {@link Requests#verify}.
   *
   * @throws RecognitionException.InvalidRequest it cannot be sent
   */
  VerifyCredentialRequest toMessage() {
    return Requests.verify(this);
  }
}
