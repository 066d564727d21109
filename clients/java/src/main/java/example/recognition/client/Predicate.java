package example.recognition.client;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Objects;

/**
 * A question about an attribute that is answered yes or no. Whoever only needs the answer should ask, and not have the
 * attribute.
 */
public sealed interface Predicate {

  /**
   * Is the person at least so many years old today?
   *
   * @param years 1 to 150
   */
  record AgeAtLeast(int years) implements Predicate {}

  /**
   * Is the household registered in one of these provinces?
   *
   * @param provinces at least one of sh, js, zj, ah
   */
  record HouseholdIn(List<String> provinces) implements Predicate {
    /** Keeps a copy. One with a gap is not asked. */
    public HouseholdIn {
      provinces = provinces == null ? List.of() : Collections.unmodifiableList(new ArrayList<>(provinces));
    }
  }

  /**
   * Is an attribute exactly what is on file?
   *
   * @param claim the claim's name
   * @param value what it is compared with, character by character
   */
  record ClaimMatches(String claim, String value) implements Predicate {
    /** Takes null for no text; without one of the two, it is not asked. */
    public ClaimMatches {
      claim = Objects.requireNonNullElse(claim, "");
      value = Objects.requireNonNullElse(value, "");
    }

    /** Leaves the value out. */
    @Override
    public String toString() {
      return "ClaimMatches[claim=" + claim + "]";
    }
  }

  /**
   * Asks for an age.
   *
   * @param years 1 to 150
   * @return the question
   */
  static Predicate ageAtLeast(int years) {
    return new AgeAtLeast(years);
  }

  /**
   * Asks where the household is registered.
   *
   * @param provinces at least one of sh, js, zj, ah
   * @return the question
   */
  static Predicate householdIn(String... provinces) {
    return new HouseholdIn(Arrays.asList(provinces));
  }

  /**
   * Asks whether an attribute is what is on file.
   *
   * @param claim the claim's name
   * @param value what it is compared with
   * @return the question
   */
  static Predicate claimMatches(String claim, String value) {
    return new ClaimMatches(claim, value);
  }
}
