package example.recognition.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.gson.JsonParser;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

/** The words are those that all clients have, under the numbers of the contract. */
class ReasonTest {

  @Test
  void wordsAreThePublishedOnes() throws Exception {
    try (Reader file = Files.newBufferedReader(Path.of("..", "texts.json"))) {
      var reasons = JsonParser.parseReader(file).getAsJsonObject().getAsJsonObject("reasons");
      assertEquals(reasons.size(), Reason.values().length - 1);
      for (var name : reasons.keySet()) {
        var published = reasons.getAsJsonObject(name);
        var reason = Reason.valueOf(name);
        assertEquals(published.get("number").getAsInt(), reason.number());
        assertEquals(published.get("next").getAsString(), reason.nextStep().name());
        for (var language : Language.values()) {
          var words = published.getAsJsonObject(language.name().toLowerCase(java.util.Locale.ROOT));
          assertEquals(words.get("what").getAsString(), reason.text(language).what());
          assertEquals(words.get("next_step").getAsString(), reason.text(language).nextStep());
        }
      }
    }
  }

  @Test
  void numbersAreThoseOfTheContract() {
    for (var reason : example.recognition.v1.Reason.values()) {
      if (reason != example.recognition.v1.Reason.UNRECOGNIZED && reason.getNumber() != 0) {
        assertEquals(reason.name(), "REASON_" + Reason.of(reason.getNumber()).name());
      }
    }
    for (var step : example.recognition.v1.NextStep.values()) {
      if (step != example.recognition.v1.NextStep.UNRECOGNIZED && step.getNumber() != 0) {
        assertEquals(step.name(), "NEXT_STEP_" + NextStep.of(step.getNumber()).name());
      }
    }
    assertEquals(Reason.UNRECOGNISED, Reason.of(0));
    assertEquals(NextStep.CALL_SUPPORT, NextStep.of(0));
  }
}
