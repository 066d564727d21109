package example.recognition.client;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.netty.shaded.io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.netty.handler.ssl.SslContext;
import io.grpc.util.CertificateUtils;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.security.GeneralSecurityException;
import java.security.InvalidKeyException;
import java.security.PrivateKey;
import java.security.Signature;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/**
 * The channel to a gateway over mutual TLS, made anew when the files of the profile change.
 *
 * <p>The files are read at most once a second, when a call begins. What cannot be read, or does not fit together, is
 * left aside and looked at again later: whoever replaces two files does it one after the other. Calls that are under way
 * end on the channel that they began on.
 */
final class TlsChannels extends Channels {

  /** gRPC's own limit, 4 MiB, is less than the answers to a full batch with receipts may need. */
  private static final int MAX_ANSWER_BYTES = 32 * 1024 * 1024;

  /** A call whose messages gRPC cannot keep is not retried, and a batch may have 4 MiB. */
  private static final int CALL_BUFFER_BYTES = 5 * 1024 * 1024;

  private static final int BUFFER_BYTES = 64 * 1024 * 1024;
  private static final long LOOK_NANOS = TimeUnit.SECONDS.toNanos(1);

  private final Profile profile;
  private final AtomicLong looked = new AtomicLong(System.nanoTime());
  private final List<ManagedChannel> retired = new ArrayList<>();
  private volatile Active active;

  private record Material(byte[] ca, byte[] certificate, byte[] privateKey) {

    static Material read(Profile profile) throws IOException {
      return new Material(
          Files.readAllBytes(profile.ca()),
          Files.readAllBytes(profile.certificate()),
          Files.readAllBytes(profile.privateKey()));
    }

    boolean isSame(Material other) {
      return Arrays.equals(ca, other.ca)
          && Arrays.equals(certificate, other.certificate)
          && Arrays.equals(privateKey, other.privateKey);
    }
  }

  private record Active(Material files, ManagedChannel channel) {}

  /**
   * Prepares the channel; nothing is connected before the first call.
   *
   * @throws IOException a file cannot be read, is not what it must be, or does not fit the others
   */
  TlsChannels(Profile profile) throws IOException {
    this.profile = profile;
    this.active = open(Material.read(profile));
  }

  @Override
  ManagedChannel current() {
    long now = System.nanoTime();
    long last = looked.get();
    if (now - last >= LOOK_NANOS && looked.compareAndSet(last, now)) {
      look();
    }
    return active.channel();
  }

  @Override
  String address() {
    return profile.address();
  }

  @Override
  void shutDown() {
    List<ManagedChannel> all;
    synchronized (this) {
      all = new ArrayList<>(retired);
      all.add(active.channel());
    }
    all.forEach(ManagedChannel::shutdownNow);
  }

  private void look() {
    Active fresh;
    try {
      var files = Material.read(profile);
      if (files.isSame(active.files())) {
        return;
      }
      fresh = open(files);
    } catch (IOException notYet) {
      return; // what was good stays in use
    }
    ManagedChannel old;
    synchronized (this) {
      old = isClosed() ? fresh.channel() : active.channel();
      if (!isClosed()) {
        active = fresh;
        retired.removeIf(ManagedChannel::isTerminated);
        retired.add(old);
      }
    }
    old.shutdown();
  }

  private Active open(Material files) throws IOException {
    var channel = configure(NettyChannelBuilder.forTarget("dns:///" + profile.address()).sslContext(context(files)))
        .keepAliveTime(30, TimeUnit.SECONDS)
        .keepAliveTimeout(10, TimeUnit.SECONDS)
        .keepAliveWithoutCalls(false)
        .build();
    return new Active(files, channel);
  }

  private SslContext context(Material files) throws IOException {
    try {
      var trusted = CertificateUtils.getX509Certificates(new ByteArrayInputStream(files.ca()));
      var chain = CertificateUtils.getX509Certificates(new ByteArrayInputStream(files.certificate()));
      var key = CertificateUtils.getPrivateKey(new ByteArrayInputStream(files.privateKey()));
      if (trusted.length == 0 || chain.length == 0 || !belongTogether(key, chain[0])) {
        throw new IOException(profile.certificate() + " and " + profile.privateKey() + " do not belong together, or "
            + profile.ca() + " has no certificate");
      }
      return GrpcSslContexts.forClient()
          .protocols("TLSv1.3", "TLSv1.2")
          .trustManager(trusted)
          .keyManager(key, chain)
          .build();
    } catch (GeneralSecurityException | IllegalArgumentException error) {
      throw new IOException(
          "no certificate or key: " + profile.ca() + ", " + profile.certificate() + ", " + profile.privateKey(), error);
    }
  }

  /** Has the key sign something that the certificate is to verify. */
  private static boolean belongTogether(PrivateKey key, X509Certificate certificate) throws GeneralSecurityException {
    var something = "do they belong together?".getBytes(StandardCharsets.US_ASCII);
    var signature = Signature.getInstance(switch (key.getAlgorithm()) {
      case "EC" -> "SHA256withECDSA";
      case "RSA" -> "SHA256withRSA";
      default -> key.getAlgorithm();
    });
    signature.initSign(key);
    signature.update(something);
    var signed = signature.sign();
    try {
      signature.initVerify(certificate.getPublicKey());
    } catch (InvalidKeyException ofAnotherKind) {
      return false;
    }
    signature.update(something);
    return signature.verify(signed);
  }

  /** Sets what holds for every channel, however it connects. */
  static <T extends ManagedChannelBuilder<T>> T configure(T builder) {
    return builder
        .defaultServiceConfig(serviceConfig())
        .enableRetry()
        .perRpcBufferLimit(CALL_BUFFER_BYTES)
        .retryBufferSize(BUFFER_BYTES)
        .maxInboundMessageSize(MAX_ANSWER_BYTES)
        .proxyDetector(address -> null); // a gateway is reached directly, whatever the environment says
  }

  /** Reads which calls may be retried, as it is published for all clients. */
  private static Map<String, ?> serviceConfig() {
    try (var file = TlsChannels.class.getResourceAsStream("service-config.json");
        var reader = new InputStreamReader(file, StandardCharsets.UTF_8)) {
      return new Gson().fromJson(reader, new TypeToken<Map<String, Object>>() {});
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }
}
