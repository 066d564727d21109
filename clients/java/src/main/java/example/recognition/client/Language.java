package example.recognition.client;

/** The languages there are words in. */
public enum Language {
  /** Chinese. */
  ZH,
  /** English. */
  EN
}
