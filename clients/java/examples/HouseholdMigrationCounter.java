import example.recognition.client.Accepted;
import example.recognition.client.Challenge;
import example.recognition.client.Decision;
import example.recognition.client.Language;
import example.recognition.client.Profile;
import example.recognition.client.RecognitionClient;
import example.recognition.client.RecognitionException;
import example.recognition.client.VerifyRequest;
import java.nio.file.Path;
import java.time.Instant;
import java.util.Optional;
import java.util.Scanner;
import java.util.function.Function;

/**
 * A counter where people from other provinces register their household (户籍迁移). It shows what a clerk has to see, and
 * that each of the four ways in which it can end leads somewhere else: go on, refuse for a reason, ask again later, or go
 * on in the conventional way because the system did not answer.
 *
 * In the root of the repository, while {@code make run} runs in another terminal:
 *
 * <pre>
 * mvn -q -B -f clients/java package -DskipTests
 * java -cp 'clients/java/target/*:clients/java/target/lib/*' clients/java/examples/HouseholdMigrationCounter.java \
 *   .lab/ah/clients/hukou.toml case-0001
 * </pre>
 *
 * <p>It prints a challenge and waits for the presentation; README.md shows how the person's app is played.
 */
public final class HouseholdMigrationCounter {

  private static final String MATTER = "HK-QY";

  /** What becomes of a case after the person has presented. */
  public enum State {
    /** The data are taken over, and the move is registered. */
    GOES_ON,
    /** The person is told why, and what to do about it. */
    REFUSED,
    /** The case stays open; nobody is turned away. */
    ASK_AGAIN_LATER,
    /** Nobody decided anything. The clerk goes by paper. */
    BY_PAPER,
  }

  /**
   * What the clerk sees, and what the case file keeps: the number of the case beside the verification's id, never more of
   * the person than the matter needs, and by when even that is erased. A move is registered once for a verification's id.
   */
  public record CaseFile(
      String number,
      State state,
      String words,
      String verificationId,
      Optional<Accepted> person,
      Optional<Instant> eraseBy) {

    CaseFile(String number, State state, String words, String verificationId) {
      this(number, state, words, verificationId, Optional.empty(), Optional.empty());
    }
  }

  private final RecognitionClient gateway;
  private final Language language;

  /** Opens the counter. */
  public HouseholdMigrationCounter(RecognitionClient gateway, Language language) {
    this.gateway = gateway;
    this.language = language;
  }

  /**
   * Serves one person.
   *
   * @param number the number of the case. It is not the request's id: the client makes a random one for each question,
   *     because whoever knew it could have the answer too
   * @param wallet shows the challenge to the person's app, and gives what it presents
   */
  public CaseFile serve(String number, Function<Challenge, String> wallet) {
    Decision decision;
    try {
      var challenge = gateway.challenge(MATTER);
      decision = gateway.verify(VerifyRequest.of(MATTER, wallet.apply(challenge))
          .withNonce(challenge.nonce())
          .withTerminal("hukou-window-3"));
    } catch (RecognitionException error) {
      return new CaseFile(number, State.BY_PAPER, error.getMessage(), "");
    }
    var id = decision.verificationId();
    var nextStep = decision.nextStep().text(language);
    return decision.verdict().match(
        accepted -> new CaseFile(
            number, State.GOES_ON, nextStep, id, Optional.of(accepted), Optional.of(accepted.eraseAt())),
        rejected -> new CaseFile(number, State.REFUSED, rejected.reason().text(language).what() + nextStep, id),
        indeterminate -> new CaseFile(number, State.ASK_AGAIN_LATER, nextStep, id));
  }

  /** Serves one person at the command line. */
  public static void main(String[] arguments) throws Exception {
    try (var gateway = new RecognitionClient(Profile.read(Path.of(arguments[0]))); var app = new Scanner(System.in)) {
      var file = new HouseholdMigrationCounter(gateway, Language.ZH).serve(arguments[1], challenge -> {
        System.out.println("--audience " + challenge.audience() + " --nonce " + challenge.nonce());
        return app.nextLine();
      });
      System.out.println(file.state() + " " + file.verificationId() + " " + file.words());
      file.person().ifPresent(person -> System.out.println(person.attributes().keySet()));
    }
  }
}
