package example.recognition.client;

/**
 * The same in Chinese and in English, as the gateway says it.
 *
 * @param zh Chinese
 * @param en English
 */
public record LocalizedText(String zh, String en) {

  /**
   * Gives it in one language.
   *
   * @param language which
   * @return the text
   */
  public String text(Language language) {
    return switch (language) {
      case ZH -> zh;
      case EN -> en;
    };
  }
}
