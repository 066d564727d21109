// Written by generate_reasons.py from clients/texts.json: not to be edited.

package example.recognition.client;

import java.util.Arrays;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.Collectors;

/** What whoever asked should do next, in words for clerks and citizens. */
public enum NextStep {
  /**
   * Go on with the matter. Use the information for this matter only, and erase it when the time to keep it is
   * over.
   */
  PROCEED(
      1,
      "请继续办理。所得信息仅用于本事项，并在保存期满时删除。",
      "Go on with the matter. Use the information for this matter only, and erase it when the time to keep it is over."),
  /**
   * Ask the person to open the app again and present once more. If that fails too, call technical support; the
   * person has done nothing wrong.
   */
  PRESENT_AGAIN(
      2,
      "请当事人重新打开应用，再出示一次。如仍不成功，请联系技术支持；这不是当事人的过错。",
      "Ask the person to open the app again and present once more. If that fails too, call technical support; the person has done nothing wrong."),
  /**
   * Start a new verification at this counter and ask the person to present once more, here and now.
   */
  NEW_CHALLENGE(
      3,
      "请在本窗口重新发起核验，并请当事人当场再出示一次。",
      "Start a new verification at this counter and ask the person to present once more, here and now."),
  /**
   * Ask the person to choose the identity credential in the app and present it again.
   */
  CHOOSE_IDENTITY_CREDENTIAL(
      4,
      "请当事人在应用中选择身份凭证后再出示。",
      "Ask the person to choose the identity credential in the app and present it again."),
  /**
   * See which types of credential this matter accepts and ask the person for one of them.
   */
  CHOOSE_ACCEPTED_TYPE(
      5,
      "请查看本事项接受的凭证种类，请当事人出示其中一种。",
      "See which types of credential this matter accepts and ask the person for one of them."),
  /**
   * Ask for a credential from an issuer that is recognised, or go on in the conventional way. If you think this
   * issuer should be recognised, tell your gateway's administrator.
   */
  CHOOSE_RECOGNISED_ISSUER(
      6,
      "请当事人改用已互认机构签发的凭证，或按常规方式受理。如认为该机构应当被互认，请告知本省网关管理员。",
      "Ask for a credential from an issuer that is recognised, or go on in the conventional way. If you think this issuer should be recognised, tell your gateway's administrator."),
  /**
   * Ask the person to renew the credential in the issuing province's app and present it again.
   */
  RENEW_CREDENTIAL(
      7,
      "请当事人在签发地的应用中更新凭证后再出示。",
      "Ask the person to renew the credential in the issuing province's app and present it again."),
  /**
   * Ask the person to have the credential issued again in the issuing province's app and to present the new one;
   * the person has done nothing wrong.
   */
  GET_NEW_CREDENTIAL(
      8,
      "请当事人在签发地的应用中重新申领凭证后再出示；这不是当事人的过错。",
      "Ask the person to have the credential issued again in the issuing province's app and to present the new one; the person has done nothing wrong."),
  /**
   * Ask the person to enquire with the issuer about this credential; meanwhile you may go on in the conventional
   * way.
   */
  ASK_ISSUER(
      9,
      "请当事人向签发机构咨询该凭证的状态；在此期间可按常规方式受理。",
      "Ask the person to enquire with the issuer about this credential; meanwhile you may go on in the conventional way."),
  /**
   * Ask the person to authenticate once more and present the credential again.
   */
  AUTHENTICATE_AGAIN(
      10,
      "请当事人重新认证一次，再出示凭证。",
      "Ask the person to authenticate once more and present the credential again."),
  /**
   * Ask the person to authenticate again in the way this matter demands, such as reading the card and comparing
   * the face at the counter, and to present again.
   */
  AUTHENTICATE_STRONGER(
      11,
      "请当事人按本事项要求的方式重新认证（例如窗口读证并人像比对）后再出示。",
      "Ask the person to authenticate again in the way this matter demands, such as reading the card and comparing the face at the counter, and to present again."),
  /**
   * Tell the person which information is needed and what for; if they agree, ask them to present once more.
   */
  DISCLOSE_MORE(
      12,
      "请告知当事人所需信息及用途；当事人同意后再出示一次。",
      "Tell the person which information is needed and what for; if they agree, ask them to present once more."),
  /**
   * Tell the person what for, which information and for how long; when they have signed, record the consent and
   * verify once more. If they do not consent, go on in the conventional way.
   */
  OBTAIN_CONSENT(
      13,
      "请告知当事人用途、所需信息和保存期限；当事人签署同意书后登记同意，再核验一次。当事人不同意的，按常规方式受理。",
      "Tell the person what for, which information and for how long; when they have signed, record the consent and verify once more. If they do not consent, go on in the conventional way."),
  /**
   * Have somebody present who may act in this matter: the person themself, a guardian or an agent whose authority
   * extends to it.
   */
  CHANGE_ACTOR(
      14,
      "请由有权办理本事项的人（本人、监护人或受托人）出示其凭证；授权范围应包含本事项。",
      "Have somebody present who may act in this matter: the person themself, a guardian or an agent whose authority extends to it."),
  /**
   * Check this computer's clock and try again in a moment; if it still fails, call technical support.
   */
  CHECK_CLOCK(
      15,
      "请核对本机时间，稍后再试；如仍不成功，请联系技术支持。",
      "Check this computer's clock and try again in a moment; if it still fails, call technical support."),
  /**
   * Please try again later. The credential was not refused, so do not turn the person away; if it is urgent, go on
   * in the conventional way.
   */
  RETRY_LATER(
      16,
      "请稍后再试。凭证没有被拒绝，请勿据此退件；如急需办理，可按常规方式受理。",
      "Please try again later. The credential was not refused, so do not turn the person away; if it is urgent, go on in the conventional way."),
  /**
   * Call your gateway's technical support and give them the verification number. This is a technical matter
   * between systems and has nothing to do with the person; you may go on in the conventional way.
   */
  CALL_SUPPORT(
      17,
      "请联系本省网关技术支持，并提供核验编号。这是系统之间的技术问题，与当事人无关；可按常规方式继续受理。",
      "Call your gateway's technical support and give them the verification number. This is a technical matter between systems and has nothing to do with the person; you may go on in the conventional way."),
  /**
   * Tell your gateway's administrator. This concerns the documents by which the systems trust each other and has
   * nothing to do with the person.
   */
  TELL_ADMINISTRATOR(
      18,
      "请通知本省网关管理员处理。这是系统之间的信任文件问题，与当事人无关。",
      "Tell your gateway's administrator. This concerns the documents by which the systems trust each other and has nothing to do with the person.");

  private static final Map<Integer, NextStep> BY_NUMBER =
      Arrays.stream(values()).collect(Collectors.toUnmodifiableMap(NextStep::number, Function.identity()));

  private final int number;
  private final String zh;
  private final String en;

  NextStep(int number, String zh, String en) {
    this.number = number;
    this.zh = zh;
    this.en = en;
  }

  /**
   * Finds a step by its number; one that this version does not know is CALL_SUPPORT.
   *
   * @param number as in the contract
   * @return the step
   */
  public static NextStep of(int number) {
    return BY_NUMBER.getOrDefault(number, CALL_SUPPORT);
  }

  /**
   * Gives its number in the contract.
   *
   * @return 1 and up
   */
  public int number() {
    return number;
  }

  /**
   * Says it in words.
   *
   * @param language in which
   * @return one or two sentences
   */
  public String text(Language language) {
    return switch (language) {
      case ZH -> zh;
      case EN -> en;
    };
  }
}
