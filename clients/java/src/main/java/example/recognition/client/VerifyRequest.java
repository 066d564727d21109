package example.recognition.client;

import example.recognition.v1.ClaimMatch;
import example.recognition.v1.HouseholdIn;
import example.recognition.v1.VerifyCredentialRequest;
import java.security.SecureRandom;
import java.util.Base64;
import java.util.List;
import java.util.Objects;

/**
 * A presentation, and what is asked about it. An empty text means that there is none.
 *
 * <pre>{@code
 * var request = VerifyRequest.of("HK-QY", presentation).withNonce(challenge.nonce()).withTerminal("window-3");
 * }</pre>
 *
 * @param matter code of the matter (政务服务事项) that the answer is for
 * @param presentation what the person handed over: a credential with key binding, or an identity assertion
 * @param nonce of the challenge that the presentation answers; an assertion has none
 * @param requestId the caller's reference, at most 64 characters of A-Z a-z 0-9 . _ - that say nothing about the person;
 *     where there is none, the client makes one for each call
 * @param consentId the consent that this rests on
 * @param predicates questions to be answered yes or no, at most 8
 * @param terminal the caller's name of the counter or operator, as {@code requestId}
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

  private static final SecureRandom RANDOM = new SecureRandom();
  private static final int REQUEST_ID_BYTES = 16;

  /** Checks that nothing is null. */
  public VerifyRequest {
    Objects.requireNonNull(matter, "matter");
    Objects.requireNonNull(presentation, "presentation");
    Objects.requireNonNull(nonce, "nonce");
    Objects.requireNonNull(requestId, "requestId");
    Objects.requireNonNull(consentId, "consentId");
    Objects.requireNonNull(terminal, "terminal");
    predicates = List.copyOf(predicates);
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
   * Gives the call a reference, which gets into the gateway's log.
   *
   * @param value at most 64 characters of A-Z a-z 0-9 . _ -
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
    return new VerifyRequest(matter, presentation, nonce, requestId, consentId, List.of(values), terminal, wantReceipt);
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
   * Writes it for the gateway, with a request id of its own where there was none: every try must bear the same one.
   */
  VerifyCredentialRequest toMessage() {
    var message = VerifyCredentialRequest.newBuilder()
        .setMatter(matter)
        .setPresentation(presentation)
        .setNonce(nonce)
        .setRequestId(requestId.isEmpty() ? newRequestId() : requestId)
        .setConsentId(consentId)
        .setTerminal(terminal)
        .setWantReceipt(wantReceipt);
    predicates.forEach(each -> message.addPredicates(toMessage(each)));
    return message.build();
  }

  private static example.recognition.v1.Predicate toMessage(Predicate predicate) {
    var message = example.recognition.v1.Predicate.newBuilder();
    if (predicate instanceof Predicate.AgeAtLeast age) {
      message.setAgeAtLeast(age.years());
    } else if (predicate instanceof Predicate.HouseholdIn household) {
      message.setHouseholdIn(HouseholdIn.newBuilder().addAllProvinces(household.provinces()));
    } else if (predicate instanceof Predicate.ClaimMatches match) {
      message.setClaimMatches(ClaimMatch.newBuilder().setClaim(match.claim()).setValue(match.value()));
    }
    return message.build();
  }

  /** Makes 22 characters that nobody guesses and no command line takes for an option. */
  private static String newRequestId() {
    var random = new byte[REQUEST_ID_BYTES];
    String made;
    do {
      RANDOM.nextBytes(random);
      made = Base64.getUrlEncoder().withoutPadding().encodeToString(random);
    } while (made.charAt(0) == '-');
    return made;
  }
}
