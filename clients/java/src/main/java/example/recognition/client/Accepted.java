package example.recognition.client;

import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * The presentation is accepted for this matter. What the gateway does not tell is an empty text, or an empty Optional.
 *
 * @param subject a pseudonym of the person: stable for services of this sector, useless to any other
 * @param issuer entity identifier of the issuer
 * @param issuingProvince province code of the issuer: sh, js, zj or ah
 * @param credentialType type of the credential (vct), or the assertion type
 * @param assurance how surely the person was identified and authenticated
 * @param attributes the attributes that the matter may have, and no others: text, Double, Boolean, List, Map or null
 * @param issuedAt when the issuer signed it
 * @param authenticatedAt when the issuer last authenticated the person
 * @param expiresAt when the credential expires
 * @param holderBound whether the presenter proved possession of the holder's key; never so for an assertion
 * @param predicateAnswers whether what was asked holds, in the order of the questions; as many as there were questions
 * @param subjectType whether the subject is a person or an organisation
 * @param actor who acts for the subject and presented this; empty: the subject itself. Never to be taken for the subject
 * @param householdProvince where the household is registered at present, if the matter may know: sh, js, zj or ah;
 *     elsewhere the province's six digits of GB/T 2260
 * @param credentialAge time since the issuer signed it
 * @param authenticationAge time since the person was last authenticated
 * @param eraseAt until when the attributes may be kept
 * @param previousSubject the pseudonym by the key version before, while records are moved; else empty
 * @param legalBasis what the law rests this on
 */
public record Accepted(
    String subject,
    String issuer,
    String issuingProvince,
    String credentialType,
    Assurance assurance,
    Map<String, Object> attributes,
    Optional<Instant> issuedAt,
    Optional<Instant> authenticatedAt,
    Optional<Instant> expiresAt,
    boolean holderBound,
    List<Boolean> predicateAnswers,
    SubjectType subjectType,
    Optional<Actor> actor,
    String householdProvince,
    Optional<Duration> credentialAge,
    Optional<Duration> authenticationAge,
    Instant eraseAt,
    String previousSubject,
    String legalBasis)
    implements Verdict {

  /** Leaves out what is about the person: logs are read by many. */
  @Override
  public String toString() {
    return "Accepted[issuingProvince=" + issuingProvince + ", credentialType=" + credentialType
        + ", level=" + assurance.level() + ", eraseAt=" + eraseAt + "]";
  }

  /**
   * Three independent levels; see the agreement.
   *
   * @param identity how surely it is this person, 1 to 3
   * @param authenticator how strong the log-in was, 1 to 3
   * @param federation how well the hand-over is protected, 1 to 3
   * @param acr the issuer's own name for the level
   * @param level the overall level by the agreement's scale: 1 and up; 0: below the lowest
   */
  public record Assurance(int identity, int authenticator, int federation, String acr, int level) {}

  /**
   * Somebody who acts for the subject.
   *
   * @param subject a pseudonym of that person, like the subject's and not derived from it
   * @param relationship guardian, agent, lawyer or legal_representative
   * @param attributes that person's attributes which the matter may have, and no others
   * @param previousSubject the pseudonym by the key version before, while records are moved; else empty
   */
  public record Actor(
      String subject, String relationship, Map<String, Object> attributes, String previousSubject) {

    /** Leaves out what is about the person. */
    @Override
    public String toString() {
      return "Actor[relationship=" + relationship + "]";
    }
  }

  /** Who or what a credential is about. */
  public enum SubjectType {
    /** A person (自然人). */
    NATURAL,
    /** An organisation (法人), identified by its unified social credit code. */
    LEGAL,
    /** Something that this version does not know. */
    UNRECOGNISED
  }
}
