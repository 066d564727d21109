// Written by generate_reasons.py from clients/texts.json: not to be edited.

package example.recognition.client;

import java.util.Arrays;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.Collectors;

/** Why a presentation was not accepted, or why the gateway cannot tell, in words for clerks and citizens. */
public enum Reason {
  /**
   * The credential presented cannot be read.
   */
  MALFORMED(
      1,
      NextStep.PRESENT_AGAIN,
      "出示的凭证无法读取。",
      "The credential presented cannot be read."),
  /**
   * The credential presented is larger than allowed.
   */
  TOO_LARGE(
      2,
      NextStep.PRESENT_AGAIN,
      "出示的凭证超出允许的大小。",
      "The credential presented is larger than allowed."),
  /**
   * The credential carries technical content that is not allowed.
   */
  HEADER_NOT_ALLOWED(
      3,
      NextStep.CALL_SUPPORT,
      "凭证含有不允许的技术内容。",
      "The credential carries technical content that is not allowed."),
  /**
   * What was presented is not the kind of document this check is for.
   */
  TYPE_MISMATCH(
      4,
      NextStep.CHOOSE_IDENTITY_CREDENTIAL,
      "出示的不是本次核验所需的那一类凭证。",
      "What was presented is not the kind of document this check is for."),
  /**
   * The credential is signed in a way that the provinces have not agreed on.
   */
  ALGORITHM_NOT_ALLOWED(
      5,
      NextStep.CALL_SUPPORT,
      "凭证的签名方式不在互认范围内。",
      "The credential is signed in a way that the provinces have not agreed on."),
  /**
   * The credential uses a digest method that the provinces have not agreed on.
   */
  HASH_NOT_ALLOWED(
      6,
      NextStep.CALL_SUPPORT,
      "凭证采用的摘要方式不在互认范围内。",
      "The credential uses a digest method that the provinces have not agreed on."),
  /**
   * The credential's issuer is not recognised by the four provinces.
   */
  ISSUER_UNKNOWN(
      10,
      NextStep.CHOOSE_RECOGNISED_ISSUER,
      "签发该凭证的机构不在互认范围内。",
      "The credential's issuer is not recognised by the four provinces."),
  /**
   * It cannot be confirmed that the registered issuer signed this credential.
   */
  KEY_UNKNOWN(
      11,
      NextStep.CALL_SUPPORT,
      "无法确认该凭证由登记的签发机构签发。",
      "It cannot be confirmed that the registered issuer signed this credential."),
  /**
   * The credential uses a key that does not meet the requirements for recognition.
   */
  KEY_NOT_ACCEPTABLE(
      12,
      NextStep.CALL_SUPPORT,
      "凭证使用的密钥不符合互认要求。",
      "The credential uses a key that does not meet the requirements for recognition."),
  /**
   * The credential's signature did not verify; it may have been damaged on the way.
   */
  SIGNATURE_INVALID(
      13,
      NextStep.PRESENT_AGAIN,
      "凭证的签名未能通过核验，内容可能在传输中受损。",
      "The credential's signature did not verify; it may have been damaged on the way."),
  /**
   * This issuer is not authorised to issue this type of credential.
   */
  ISSUER_NOT_AUTHORISED(
      14,
      NextStep.CHOOSE_RECOGNISED_ISSUER,
      "该机构未获授权签发这类凭证。",
      "This issuer is not authorised to issue this type of credential."),
  /**
   * The issuer has taken the key that signed this credential out of use.
   */
  KEY_REVOKED(
      15,
      NextStep.GET_NEW_CREDENTIAL,
      "签发机构已停用签发该凭证的密钥。",
      "The issuer has taken the key that signed this credential out of use."),
  /**
   * The provinces have suspended or ended their recognition of this issuer.
   */
  ISSUER_WITHDRAWN(
      16,
      NextStep.CHOOSE_RECOGNISED_ISSUER,
      "各省已暂停或终止对该签发机构的互认。",
      "The provinces have suspended or ended their recognition of this issuer."),
  /**
   * The credential lacks something it must say, or says it in the wrong form.
   */
  CLAIM_INVALID(
      20,
      NextStep.CALL_SUPPORT,
      "凭证缺少必要内容或内容格式有误。",
      "The credential lacks something it must say, or says it in the wrong form."),
  /**
   * The credential has expired.
   */
  EXPIRED(
      21,
      NextStep.RENEW_CREDENTIAL,
      "凭证已过有效期。",
      "The credential has expired."),
  /**
   * The credential is not valid yet.
   */
  NOT_YET_VALID(
      22,
      NextStep.CHECK_CLOCK,
      "凭证尚未到生效时间。",
      "The credential is not valid yet."),
  /**
   * The credential is made out for longer than the agreement allows.
   */
  LIFETIME_TOO_LONG(
      23,
      NextStep.CALL_SUPPORT,
      "凭证标明的有效期超过互认规定的上限。",
      "The credential is made out for longer than the agreement allows."),
  /**
   * The information that came with the credential does not belong to it.
   */
  DISCLOSURE_INVALID(
      24,
      NextStep.PRESENT_AGAIN,
      "凭证所附的信息与凭证本身不一致。",
      "The information that came with the credential does not belong to it."),
  /**
   * This matter requires proof that the person holds the credential, and none was sent.
   */
  KEY_BINDING_MISSING(
      30,
      NextStep.NEW_CHALLENGE,
      "本事项要求本人持证出示，本次出示缺少持有证明。",
      "This matter requires proof that the person holds the credential, and none was sent."),
  /**
   * It could not be confirmed that the credential was presented from its holder's device.
   */
  KEY_BINDING_INVALID(
      31,
      NextStep.NEW_CHALLENGE,
      "未能确认凭证由持有人本人的设备出示。",
      "It could not be confirmed that the credential was presented from its holder's device."),
  /**
   * The credential was presented for another office and cannot be used here.
   */
  AUDIENCE_MISMATCH(
      32,
      NextStep.NEW_CHALLENGE,
      "该凭证是出示给其他单位的，不能在此使用。",
      "The credential was presented for another office and cannot be used here."),
  /**
   * The credential answers another verification, or this one has timed out.
   */
  NONCE_MISMATCH(
      33,
      NextStep.NEW_CHALLENGE,
      "该凭证对应另一次核验，或本次核验已超时。",
      "The credential answers another verification, or this one has timed out."),
  /**
   * This presentation has been used already; each one works only once.
   */
  REPLAYED(
      34,
      NextStep.NEW_CHALLENGE,
      "该次出示已经使用过，每次出示只能用一次。",
      "This presentation has been used already; each one works only once."),
  /**
   * This matter does not accept this type of credential.
   */
  CREDENTIAL_TYPE_NOT_ACCEPTED(
      40,
      NextStep.CHOOSE_ACCEPTED_TYPE,
      "本事项不接受这一类凭证。",
      "This matter does not accept this type of credential."),
  /**
   * The credential was issued longer ago than this matter allows.
   */
  CREDENTIAL_TOO_OLD(
      41,
      NextStep.RENEW_CREDENTIAL,
      "凭证签发时间较早，超出本事项允许的期限。",
      "The credential was issued longer ago than this matter allows."),
  /**
   * The person last authenticated longer ago than this matter allows.
   */
  AUTHENTICATION_TOO_OLD(
      42,
      NextStep.AUTHENTICATE_AGAIN,
      "当事人上次认证的时间较早，超出本事项允许的期限。",
      "The person last authenticated longer ago than this matter allows."),
  /**
   * The credential states a level of assurance that the agreement does not know.
   */
  ASSURANCE_UNKNOWN(
      43,
      NextStep.CALL_SUPPORT,
      "凭证标明的认证等级不在互认等级表内。",
      "The credential states a level of assurance that the agreement does not know."),
  /**
   * The credential states a higher level of assurance than its issuer may give.
   */
  ASSURANCE_ABOVE_CAP(
      44,
      NextStep.CALL_SUPPORT,
      "凭证标明的认证等级高于该机构可签发的等级。",
      "The credential states a higher level of assurance than its issuer may give."),
  /**
   * The credential's level of assurance is lower than this matter demands.
   */
  ASSURANCE_TOO_LOW(
      45,
      NextStep.AUTHENTICATE_STRONGER,
      "凭证的认证等级低于本事项的要求。",
      "The credential's level of assurance is lower than this matter demands."),
  /**
   * Information that this matter needs was not presented.
   */
  REQUIRED_CLAIM_MISSING(
      46,
      NextStep.DISCLOSE_MORE,
      "本事项必需的信息没有一并出示。",
      "Information that this matter needs was not presented."),
  /**
   * This matter does not accept a credential about this kind of subject, a person or an organisation.
   */
  SUBJECT_TYPE_NOT_ACCEPTED(
      47,
      NextStep.CHOOSE_ACCEPTED_TYPE,
      "本事项不受理这一类主体（自然人或法人）。",
      "This matter does not accept a credential about this kind of subject, a person or an organisation."),
  /**
   * In this matter somebody has to act for the subject, and the credential names nobody.
   */
  ACTOR_MISSING(
      48,
      NextStep.CHANGE_ACTOR,
      "本事项须由有权代办的人出示，凭证未载明代办人。",
      "In this matter somebody has to act for the subject, and the credential names nobody."),
  /**
   * This matter does not accept that somebody acts in this relationship.
   */
  ACTOR_NOT_ACCEPTED(
      49,
      NextStep.CHANGE_ACTOR,
      "本事项不接受这种代办关系。",
      "This matter does not accept that somebody acts in this relationship."),
  /**
   * The authority to act does not extend to this matter, or has ended.
   */
  AUTHORITY_EXCEEDED(
      50,
      NextStep.CHANGE_ACTOR,
      "代办人的授权不包含本事项，或授权已到期。",
      "The authority to act does not extend to this matter, or has ended."),
  /**
   * This matter rests on the person's consent, and none was named.
   */
  CONSENT_MISSING(
      51,
      NextStep.OBTAIN_CONSENT,
      "本事项须当事人同意，本次核验未注明同意。",
      "This matter rests on the person's consent, and none was named."),
  /**
   * The consent named is not on record, has lapsed, or was given for something else.
   */
  CONSENT_INVALID(
      52,
      NextStep.OBTAIN_CONSENT,
      "所注明的同意未登记、已到期，或不适用于本次核验。",
      "The consent named is not on record, has lapsed, or was given for something else."),
  /**
   * The person has withdrawn their consent.
   */
  CONSENT_WITHDRAWN(
      53,
      NextStep.OBTAIN_CONSENT,
      "当事人已撤回同意。",
      "The person has withdrawn their consent."),
  /**
   * The issuer has revoked this credential.
   */
  CREDENTIAL_REVOKED(
      54,
      NextStep.ASK_ISSUER,
      "该凭证已由签发机构注销。",
      "The issuer has revoked this credential."),
  /**
   * The issuer has suspended this credential.
   */
  CREDENTIAL_SUSPENDED(
      55,
      NextStep.ASK_ISSUER,
      "该凭证已由签发机构暂停使用。",
      "The issuer has suspended this credential."),
  /**
   * What the credential says has changed since, for example where the household is registered.
   */
  ATTRIBUTES_STALE(
      56,
      NextStep.GET_NEW_CREDENTIAL,
      "凭证所载信息已经变更（例如户籍已迁移）。",
      "What the credential says has changed since, for example where the household is registered."),
  /**
   * This matter demands that the credential's status be checked, and the credential has none.
   */
  STATUS_MISSING(
      57,
      NextStep.GET_NEW_CREDENTIAL,
      "本事项须核查凭证状态，该凭证没有状态信息。",
      "This matter demands that the credential's status be checked, and the credential has none."),
  /**
   * The credential's status is not in a form that the provinces have agreed on.
   */
  STATUS_INVALID(
      58,
      NextStep.CALL_SUPPORT,
      "凭证的状态信息不符合规定。",
      "The credential's status is not in a form that the provinces have agreed on."),
  /**
   * The gateway cannot tell at present: its trust data could not be updated in time.
   */
  TRUST_STALE(
      60,
      NextStep.RETRY_LATER,
      "目前无法判断：互认信任数据未能及时更新。",
      "The gateway cannot tell at present: its trust data could not be updated in time."),
  /**
   * The gateway cannot tell at present: the credential's status could not be established.
   */
  STATUS_UNAVAILABLE(
      61,
      NextStep.RETRY_LATER,
      "目前无法判断：暂时查不到凭证的状态。",
      "The gateway cannot tell at present: the credential's status could not be established."),
  /**
   * The gateway cannot tell at present: its clock is behind the time that the provinces have already confirmed.
   */
  CLOCK_REGRESSED(
      62,
      NextStep.RETRY_LATER,
      "目前无法判断：本网关的时钟慢于各省已确认的时间。",
      "The gateway cannot tell at present: its clock is behind the time that the provinces have already confirmed."),
  /**
   * An entity statement breaks the rules for such statements.
   */
  STATEMENT_INVALID(
      70,
      NextStep.TELL_ADMINISTRATOR,
      "一份实体声明不符合规定。",
      "An entity statement breaks the rules for such statements."),
  /**
   * A trust chain does not hold together.
   */
  CHAIN_INVALID(
      71,
      NextStep.TELL_ADMINISTRATOR,
      "信任链不成立。",
      "A trust chain does not hold together."),
  /**
   * A trust chain breaks a constraint set by a superior.
   */
  CONSTRAINT_VIOLATED(
      72,
      NextStep.TELL_ADMINISTRATOR,
      "信任链超出上级设定的限制。",
      "A trust chain breaks a constraint set by a superior."),
  /**
   * A metadata policy is malformed or contradicts itself.
   */
  METADATA_POLICY_INVALID(
      73,
      NextStep.TELL_ADMINISTRATOR,
      "元数据策略有误或互相矛盾。",
      "A metadata policy is malformed or contradicts itself."),
  /**
   * Metadata does not comply with a superior's policy.
   */
  METADATA_POLICY_VIOLATED(
      74,
      NextStep.TELL_ADMINISTRATOR,
      "元数据不符合上级的策略。",
      "Metadata does not comply with a superior's policy."),
  /**
   * A document demands an extension that this gateway does not support.
   */
  CRITICAL_NOT_UNDERSTOOD(
      75,
      NextStep.TELL_ADMINISTRATOR,
      "文件含有本网关尚不支持的必需扩展。",
      "A document demands an extension that this gateway does not support."),
  /**
   * The charter, or the step from one charter to the next, is not valid.
   */
  CHARTER_INVALID(
      76,
      NextStep.TELL_ADMINISTRATOR,
      "章程或章程的更替不符合规定。",
      "The charter, or the step from one charter to the next, is not valid."),
  /**
   * Fewer trust anchors than the quorum vouch for this.
   */
  QUORUM_NOT_MET(
      77,
      NextStep.TELL_ADMINISTRATOR,
      "认可该文件的信任锚不足法定数。",
      "Fewer trust anchors than the quorum vouch for this."),
  /**
   * A document was older than the one already in use, and was left aside.
   */
  ROLLED_BACK(
      78,
      NextStep.TELL_ADMINISTRATOR,
      "收到的文件比已采用的更旧，未予采用。",
      "A document was older than the one already in use, and was left aside."),
  /**
   * One signer made two different documents with the same sequence number.
   */
  EQUIVOCATION(
      79,
      NextStep.TELL_ADMINISTRATOR,
      "同一签署方用同一序号签署了两份不同的文件。",
      "One signer made two different documents with the same sequence number."),
  /**
   * A document bears no sequence number, or one that jumps too far ahead.
   */
  SEQUENCE_INVALID(
      80,
      NextStep.TELL_ADMINISTRATOR,
      "一份文件没有序号，或序号跳动过大。",
      "A document bears no sequence number, or one that jumps too far ahead."),
  /**
   * A document is not the one its anchor's snapshot names, or the snapshot leaves a member out.
   */
  SNAPSHOT_MISMATCH(
      81,
      NextStep.TELL_ADMINISTRATOR,
      "文件与信任锚的清单不一致，或清单遗漏了应列的成员。",
      "A document is not the one its anchor's snapshot names, or the snapshot leaves a member out."),
  /**
   * A status list breaks the rules for such lists.
   */
  STATUS_LIST_INVALID(
      82,
      NextStep.TELL_ADMINISTRATOR,
      "一份状态列表不符合规定。",
      "A status list breaks the rules for such lists."),
  /**
   * A proof about a log does not hold.
   */
  PROOF_INVALID(
      83,
      NextStep.TELL_ADMINISTRATOR,
      "日志的证明不成立。",
      "A proof about a log does not hold."),
  /**
   * A log contradicts what it had shown before.
   */
  LOG_FORKED(
      84,
      NextStep.TELL_ADMINISTRATOR,
      "一份日志与它先前出示的内容矛盾。",
      "A log contradicts what it had shown before."),
  /**
   * An entry of a log is not what it must be.
   */
  LOG_ENTRY_INVALID(
      85,
      NextStep.TELL_ADMINISTRATOR,
      "日志中的一条记录不符合规定。",
      "An entry of a log is not what it must be."),
  /**
   * Not enough other provinces have seen the log.
   */
  COSIGNATURES_MISSING(
      86,
      NextStep.TELL_ADMINISTRATOR,
      "见证该日志的其他省份不足规定数目。",
      "Not enough other provinces have seen the log."),
  /** A reason that this version does not know; the verdict that bears it knows its number. */
  UNRECOGNISED(
      -1,
      NextStep.CALL_SUPPORT,
      "网关给出的原因是本程序尚不认识的。",
      "The gateway gave a reason that this program does not know yet.");

  private static final Map<Integer, Reason> BY_NUMBER =
      Arrays.stream(values()).collect(Collectors.toUnmodifiableMap(Reason::number, Function.identity()));

  private final int number;
  private final NextStep nextStep;
  private final String zh;
  private final String en;

  Reason(int number, NextStep nextStep, String zh, String en) {
    this.number = number;
    this.nextStep = nextStep;
    this.zh = zh;
    this.en = en;
  }

  /**
   * Finds a reason by its number; one that this version does not know is UNRECOGNISED.
   *
   * @param number as in the contract
   * @return the reason
   */
  public static Reason of(int number) {
    return BY_NUMBER.getOrDefault(number, UNRECOGNISED);
  }

  /**
   * Gives its number in the contract.
   *
   * @return 1 and up; -1 for UNRECOGNISED
   */
  public int number() {
    return number;
  }

  /**
   * Tells what to do next.
   *
   * @return the step
   */
  public NextStep nextStep() {
    return nextStep;
  }

  /**
   * Says it in words.
   *
   * @param language in which
   * @return what is the matter, and what to do next
   */
  public Text text(Language language) {
    String what = switch (language) {
      case ZH -> zh;
      case EN -> en;
    };
    return new Text(what, nextStep.text(language));
  }

  /**
   * A reason in one language.
   *
   * @param what what is the matter
   * @param nextStep what to do about it
   */
  public record Text(String what, String nextStep) {}
}
