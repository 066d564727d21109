package example.recognition.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ProfileTest {

  @TempDir private Path folder;

  @Test
  void pathsAreRelativeToTheFile() throws Exception {
    var file = Files.writeString(folder.resolve("hukou.toml"), """
        # written by provisioning
        address = "127.0.0.1:8443"
        ca = "../tls/ca.pem"
        certificate = "hukou.pem"
        private_key = "/etc/keys/hukou.key"
        """);
    var expected = new Profile(
        "127.0.0.1:8443",
        folder.resolve("../tls/ca.pem"),
        folder.resolve("hukou.pem"),
        Path.of("/etc/keys/hukou.key"));
    assertEquals(expected, Profile.read(file));
  }

  @Test
  void fileThatIsNoTomlIsNamed() throws Exception {
    var file = Files.writeString(folder.resolve("hukou.toml"), "address = 'x:1'\nca = [\n");
    assertTrue(assertThrows(IOException.class, () -> Profile.read(file)).getMessage().contains("hukou.toml"));
    Files.write(file, new byte[] {(byte) 0xff});
    assertTrue(assertThrows(IOException.class, () -> Profile.read(file)).getMessage().contains("hukou.toml"));
  }

  @Test
  void emptyTextIsRefused() throws Exception {
    var file = Files.writeString(
        folder.resolve("hukou.toml"), "address = 'x:1'\nca = ''\ncertificate = 'c'\nprivate_key = 'k'\n");
    var error = assertThrows(IOException.class, () -> Profile.read(file));
    assertTrue(error.getMessage().contains("hukou.toml: ca"), error.getMessage());
    var path = Path.of("ca.pem");
    assertThrows(IllegalArgumentException.class, () -> new Profile(" ", path, path, path));
    assertThrows(IllegalArgumentException.class, () -> new Profile("x:1", Path.of(""), path, path));
  }

  @Test
  void whatIsMissingIsNamed() throws Exception {
    var file = Files.writeString(folder.resolve("hukou.toml"), "address = 'x:1'\nca = 'y'\n");
    var error = assertThrows(IOException.class, () -> Profile.read(file));
    assertTrue(error.getMessage().contains("certificate"), error.getMessage());
  }
}
