package example.recognition.evidence;

/** Why a bundle proves nothing. Closed. */
public enum Flaw {
  /** It cannot be read, or something in it says what it may not or is too large. */
  MALFORMED,
  /**
   * A charter cannot be read, is not the pinned one, or does not follow the one before; or the receipt names another.
   */
  CHARTER_INVALID,
  /** Too few anchors signed a charter. */
  QUORUM_NOT_MET,
  /** The newest charter had expired when the receipt was signed. */
  CHARTER_EXPIRED,
  /** Something is dated after now. */
  NOT_YET_VALID,
  /** It is signed in the name of nobody who is a gateway of the newest charter. */
  GATEWAY_UNKNOWN,
  /** No quorum of anchors attested the key, for this purpose and when the receipt was signed. */
  KEY_UNKNOWN,
  /** The key was revoked as compromised, or superseded before it signed. */
  KEY_REVOKED,
  /** A signature does not hold. */
  SIGNATURE_INVALID,
  /** The entry is not the one that the receipt names, or says something else. */
  ENTRY_MISMATCH,
  /** The log is another one, or is not proven to hold the entry there. */
  PROOF_INVALID
}
