package example.recognition.client;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.dataformat.toml.TomlMapper;
import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
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

  /**
   * Checks that nothing is missing.
   *
   * @throws IllegalArgumentException one of the four is empty
   */
  public Profile {
    Objects.requireNonNull(address, "address");
    Objects.requireNonNull(ca, "ca");
    Objects.requireNonNull(certificate, "certificate");
    Objects.requireNonNull(privateKey, "privateKey");
    if (address.isBlank() || isEmpty(ca) || isEmpty(certificate) || isEmpty(privateKey)) {
      throw new IllegalArgumentException("address, ca, certificate or privateKey is empty");
    }
  }

  /**
   * Reads a profile as provisioning writes it: TOML with {@code address}, {@code ca}, {@code certificate} and
   * {@code private_key}. Paths in it are relative to its folder.
   *
   * @param file the profile
   * @return the profile
   * @throws IOException it cannot be read, is not TOML, or one of the four is missing or empty; the message names it
   */
  public static Profile read(Path file) throws IOException {
    Map<?, ?> content;
    try {
      content = new TomlMapper().readValue(Files.readString(file), Map.class);
    } catch (JsonProcessingException | CharacterCodingException broken) {
      throw new IOException(file + " is not TOML in UTF-8", broken);
    }
    return new Profile(
        value(content, "address", file),
        file.resolveSibling(value(content, "ca", file)),
        file.resolveSibling(value(content, "certificate", file)),
        file.resolveSibling(value(content, "private_key", file)));
  }

  private static boolean isEmpty(Path path) {
    return path.toString().isEmpty();
  }

  private static String value(Map<?, ?> content, String name, Path file) throws IOException {
    if (content.get(name) instanceof String value && !value.isBlank()) {
      return value;
    }
    throw new IOException(file + ": " + name + " is missing, empty or not a text");
  }
}
