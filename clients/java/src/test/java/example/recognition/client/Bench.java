package example.recognition.client;

import com.sun.management.OperatingSystemMXBean;
import example.recognition.v1.VerificationServiceGrpc;
import io.grpc.netty.shaded.io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * What the client costs beside the stub that it is made of: {@code --profile FILE --stage URL --calls N}.
 *
 * <p>Both verify assertions one after another over a connection of their own, in turns, so that whatever else the machine
 * does falls on both alike. Prints one JSON line for each.
 */
public final class Bench {

  private static final int ROUNDS = 10;
  private static final OperatingSystemMXBean SYSTEM =
      ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class);

  private Bench() {}

  public static void main(String[] arguments) throws Exception {
    var options = List.of(arguments);
    var profile = Profile.read(Path.of(option(options, "--profile")));
    var stage = new Stage(option(options, "--stage"));
    int calls = Math.max(1, Integer.parseInt(option(options, "--calls")) / ROUNDS);
    var matter = stage.matter("court");

    var tls = GrpcSslContexts.forClient()
        .trustManager(profile.ca().toFile())
        .keyManager(profile.certificate().toFile(), profile.privateKey().toFile())
        .build();
    var channel = NettyChannelBuilder.forTarget("dns:///" + profile.address()).sslContext(tls).build();
    try (var client = new RecognitionClient(profile)) {
      var stub = VerificationServiceGrpc.newBlockingStub(channel);
      var audience = client.challenge(matter).audience();
      var thin = new Contender("thin", assertion -> {
        var decision = client.verify(VerifyRequest.of(matter, assertion));
        if (!(decision.verdict() instanceof Accepted)) {
          throw new IllegalStateException(decision.toString());
        }
      });
      var bare = new Contender("bare", assertion -> {
        var request = VerifyRequest.of(matter, assertion).toMessage();
        var answer = stub.withDeadlineAfter(10, TimeUnit.SECONDS).verifyCredential(request);
        if (!answer.hasAccepted()) {
          throw new IllegalStateException(answer.getVerdictCase().toString());
        }
      });
      // As many rounds again come first, for the just-in-time compiler, whose work would count as the client's.
      for (int round = -ROUNDS; round < ROUNDS; round++) {
        for (var contender : round % 2 == 0 ? List.of(thin, bare) : List.of(bare, thin)) {
          contender.run(stage.assertions(audience, calls), round >= 0);
        }
      }
      thin.print();
      bare.print();
    } finally {
      channel.shutdownNow();
    }
  }

  private static String option(List<String> options, String name) {
    int at = options.indexOf(name);
    if (at < 0 || at + 1 == options.size()) {
      throw new IllegalArgumentException("usage: --profile FILE --stage URL --calls N");
    }
    return options.get(at + 1);
  }

  private static final class Contender {
    private final String what;
    private final Consumer<String> verify;
    private int calls;
    private long nanos;
    private long cpuNanos;

    Contender(String what, Consumer<String> verify) {
      this.what = what;
      this.verify = verify;
    }

    void run(List<String> assertions, boolean counts) {
      long begun = System.nanoTime();
      long cpuBegun = SYSTEM.getProcessCpuTime();
      assertions.forEach(verify);
      if (counts) {
        calls += assertions.size();
        nanos += System.nanoTime() - begun;
        cpuNanos += SYSTEM.getProcessCpuTime() - cpuBegun;
      }
    }

    void print() {
      System.out.printf(
          Locale.ROOT,
          "{\"client\": \"java\", \"what\": \"%s\", \"calls_per_s\": %.1f, \"client_cpu_us_per_call\": %.1f}%n",
          what,
          calls * 1e9 / nanos,
          cpuNanos / 1e3 / calls);
    }
  }
}
