package example.recognition.client;

import com.google.protobuf.Message;
import example.recognition.v1.ClaimMatch;
import example.recognition.v1.HouseholdIn;
import example.recognition.v1.VerifyCredentialRequest;
import java.security.SecureRandom;
import java.util.Base64;

/**
 * Writes what goes to a gateway.
 *
 * <p>What could not be sent as it is, or would be refused whatever the person presents, is found here: were it sent, a
 * mistake of the program would be on record as a rejection.
 */
final class Requests {

  /** What a gateway takes in one request. A presentation over its 64 KiB is sent, because it is for a verdict to say so. */
  static final int MAX_BYTES = 256 * 1024;

  private static final SecureRandom RANDOM = new SecureRandom();
  private static final int REQUEST_ID_BYTES = 16;

  private Requests() {}

  /**
   * Writes a request, with a request id of its own where there was none: every try must bear the same one.
   *
   * @throws RecognitionException.InvalidRequest it cannot be sent
   */
  static VerifyCredentialRequest verify(VerifyRequest request) {
    if (request == null) {
      throw Errors.invalid("request", "is missing", "");
    }
    text("request_id", request.requestId(), "");
    var id = request.requestId().isEmpty() ? newRequestId() : request.requestId();
    var message = VerifyCredentialRequest.newBuilder()
        .setMatter(required("matter", request.matter(), id))
        .setPresentation(required("presentation", request.presentation(), id))
        .setNonce(text("nonce", request.nonce(), id))
        .setRequestId(id)
        .setConsentId(text("consent_id", request.consentId(), id))
        .setTerminal(text("terminal", request.terminal(), id))
        .setWantReceipt(request.wantReceipt());
    for (int i = 0; i < request.predicates().size(); i++) {
      message.addPredicates(predicate("predicates[" + i + "]", request.predicates().get(i), id));
    }
    return bounded("presentation", message.build(), id);
  }

  /** Gives a text that can be sent. */
  static String text(String field, String value, String requestId) {
    for (int i = 0; i < value.length(); i++) {
      if (Character.isSurrogate(value.charAt(i))) {
        boolean isPair = i + 1 < value.length() && Character.isSurrogatePair(value.charAt(i), value.charAt(i + 1));
        if (!isPair) {
          throw Errors.invalid(field, "holds half a character (a lone surrogate), which UTF-8 cannot carry", requestId);
        }
        i++;
      }
    }
    return value;
  }

  /** Gives a text that can be sent, and is there. */
  static String required(String field, String value, String requestId) {
    if (value == null || value.isEmpty()) {
      throw Errors.invalid(field, "is missing", requestId);
    }
    return text(field, value, requestId);
  }

  /** Gives a message that is not larger than a gateway takes. */
  static <T extends Message> T bounded(String field, T message, String requestId) {
    if (message.getSerializedSize() > MAX_BYTES) {
      throw Errors.invalid(field, "makes the request larger than 256 KiB", requestId);
    }
    return message;
  }

  private static example.recognition.v1.Predicate predicate(String place, Predicate predicate, String requestId) {
    if (predicate == null) {
      throw Errors.invalid(place, "is missing", requestId);
    }
    var message = example.recognition.v1.Predicate.newBuilder();
    if (predicate instanceof Predicate.AgeAtLeast age) {
      message.setAgeAtLeast(age.years());
    } else if (predicate instanceof Predicate.HouseholdIn household) {
      var provinces = HouseholdIn.newBuilder();
      household.provinces().forEach(each ->
          provinces.addProvinces(required(place + ".household_in.provinces", each, requestId)));
      message.setHouseholdIn(provinces);
    } else if (predicate instanceof Predicate.ClaimMatches match) {
      message.setClaimMatches(ClaimMatch.newBuilder()
          .setClaim(required(place + ".claim_matches.claim", match.claim(), requestId))
          .setValue(required(place + ".claim_matches.value", match.value(), requestId)));
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
