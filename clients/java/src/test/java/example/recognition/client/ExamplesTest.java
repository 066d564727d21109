package example.recognition.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledIfEnvironmentVariable;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The examples run as their reader runs them, the README's as it stands there. */
@Timeout(300)
class ExamplesTest {

  private static final Path COUNTER = Path.of("examples", "HouseholdMigrationCounter.java");
  private static final Pattern JAVA_BLOCK = Pattern.compile("^```java\n(.*?)^```$", Pattern.DOTALL | Pattern.MULTILINE);
  private static final Pattern CHALLENGE = Pattern.compile("--audience (\\S+) --nonce (\\S+)");
  private static final String CLASS_PATH =
      System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));

  @TempDir private Path folder;

  @Test
  void examplesCompileWithoutAWarning() throws Exception {
    var files = new ArrayList<>(List.of(COUNTER));
    for (var readme : List.of("README.md", "README.zh-CN.md")) {
      var file = Files.createDirectory(folder.resolve(readme)).resolve("Counter.java");
      files.add(Files.writeString(file, quickStart(readme)));
    }
    assertEquals(Files.readString(files.get(1)), Files.readString(files.get(2)), "the READMEs have the same code");
    var compiler = ToolProvider.getSystemJavaCompiler();
    for (var file : files) {
      var said = new StringWriter();
      try (var manager = compiler.getStandardFileManager(null, null, StandardCharsets.UTF_8)) {
        var options = List.of("-Xlint:all", "-Werror", "-proc:none", "-cp", CLASS_PATH, "-d", folder.toString());
        assertTrue(compiler.getTask(said, manager, null, options, null, manager.getJavaFileObjects(file)).call(),
            said::toString);
      }
    }
  }

  @Test
  @EnabledIfEnvironmentVariable(named = Stage.VARIABLE, matches = ".+", disabledReason = "needs the stage: MRG_STAGE")
  void quickStartShowsAcceptedAndARejection() throws Exception {
    var file = Files.writeString(folder.resolve("Counter.java"), quickStart("README.md"));
    var accepted = run(file, "");
    assertTrue(accepted.get(0).startsWith("accepted: "), accepted::toString);
    var rejected = run(file, "revoked");
    assertEquals("rejected: " + Reason.CREDENTIAL_REVOKED.text(Language.EN).what(), rejected.get(0));
    assertEquals(NextStep.ASK_ISSUER.text(Language.EN), rejected.get(1));
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "claim-withheld"})
  @EnabledIfEnvironmentVariable(named = Stage.VARIABLE, matches = ".+", disabledReason = "needs the stage: MRG_STAGE")
  void counterServes(String kind) throws Exception {
    var lines = run(COUNTER, kind, "case-0001");
    if (kind.isEmpty()) {
      assertTrue(lines.get(0).startsWith("GOES_ON "), lines::toString);
      assertTrue(lines.get(1).contains("name"), lines::toString);
    } else {
      assertTrue(lines.get(0).startsWith("REFUSED "), lines::toString);
      assertTrue(lines.get(0).contains(Reason.REQUIRED_CLAIM_MISSING.text(Language.ZH).what()), lines::toString);
    }
  }

  private static String quickStart(String readme) throws Exception {
    var found = JAVA_BLOCK.matcher(Files.readString(Path.of(readme)));
    assertTrue(found.find(), readme);
    return found.group(1);
  }

  /** Runs a program, and answers the challenge that it prints as the person's app would. */
  private static List<String> run(Path program, String kind, String... arguments) throws Exception {
    var stage = Stage.fromEnvironment();
    var java = Path.of(System.getProperty("java.home"), "bin", "java").toString();
    var command = new ArrayList<>(List.of(java, "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-cp", CLASS_PATH));
    command.addAll(List.of(program.toString(), stage.profile("hukou").toString()));
    command.addAll(List.of(arguments));
    var process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
    try (var out = new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
        var in = process.outputWriter(StandardCharsets.UTF_8)) {
      var line = out.readLine();
      assertNotNull(line);
      var asked = CHALLENGE.matcher(line);
      assertTrue(asked.find(), line);
      in.write(stage.present(new Challenge(asked.group(2), asked.group(1), Instant.EPOCH), kind) + "\n");
      in.flush();
      var lines = out.lines().toList();
      assertTrue(process.waitFor(60, TimeUnit.SECONDS));
      assertEquals(0, process.exitValue(), lines::toString);
      return lines;
    } finally {
      process.destroyForcibly();
    }
  }
}
