package example.recognition.client;

import com.fasterxml.jackson.dataformat.toml.TomlMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import java.util.Objects;

/**
 * How a service reaches its province's gateway, and what it shows there.
 *
 * @param address host:port of the gateway; its certificate must be for that host
 * @param ca file of the CA certificates (PEM) that the gateway's certificate must come from
 * @param certificate file of the service's certificate (PEM), intermediate ones after it
 * @param privateKey file of its private key (PEM, PKCS #8, not encrypted)
 */
public record Profile(String address, Path ca, Path certificate, Path privateKey) {

  /** Checks that nothing is missing. */
  public Profile {
    Objects.requireNonNull(address, "address");
    Objects.requireNonNull(ca, "ca");
    Objects.requireNonNull(certificate, "certificate");
    Objects.requireNonNull(privateKey, "privateKey");
  }

  /**
   * Reads a profile as provisioning writes it: TOML with {@code address}, {@code ca}, {@code certificate} and
   * {@code private_key}. Paths in it are relative to its folder.
   *
   * @param file the profile
   * @return the profile
   * @throws IOException it cannot be read, or one of the four is missing; the message names it
   */
  public static Profile read(Path file) throws IOException {
    Map<?, ?> content = new TomlMapper().readValue(file.toFile(), Map.class);
    return new Profile(
        value(content, "address", file),
        file.resolveSibling(value(content, "ca", file)),
        file.resolveSibling(value(content, "certificate", file)),
        file.resolveSibling(value(content, "private_key", file)));
  }

  private static String value(Map<?, ?> content, String name, Path file) throws IOException {
    if (content.get(name) instanceof String value && !value.isEmpty()) {
      return value;
    }
    throw new IOException(file + ": " + name + " is missing or not a text");
  }
}
