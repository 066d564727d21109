package example.recognition.client;

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/** The real federation that tests run against, and its strings; tests/clients/stage.py says what can be pulled. */
final class Stage {

  static final String VARIABLE = "MRG_STAGE";

  private final Gson gson = new Gson();
  private final HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
  private final String url;

  Stage(String url) {
    this.url = url;
  }

  static Stage fromEnvironment() {
    return new Stage(System.getenv(VARIABLE));
  }

  Path profile(String name) {
    return Path.of(get("profiles").getAsJsonObject().get(name).getAsString());
  }

  String matter(String name) {
    return get("matters").getAsJsonObject().get(name).getAsString();
  }

  JsonElement get(String path) {
    return send(HttpRequest.newBuilder(URI.create(url + "/" + path)).build());
  }

  JsonObject post(String path, Map<String, ?> body) {
    var request = HttpRequest.newBuilder(URI.create(url + "/" + path))
        .POST(HttpRequest.BodyPublishers.ofString(gson.toJson(body)))
        .build();
    return send(request).getAsJsonObject();
  }

  /** What the person's app makes of a challenge; kind is empty for a good presentation. */
  String present(Challenge challenge, String kind) {
    var body = Map.of("nonce", challenge.nonce(), "audience", challenge.audience(), "kind", kind);
    return post("present", body).get("presentation").getAsString();
  }

  List<String> assertions(String audience, int count) {
    var answer = post("assertions", Map.of("audience", audience, "count", count));
    return answer.getAsJsonArray("assertions").asList().stream().map(JsonElement::getAsString).toList();
  }

  JsonObject caller(String verificationId) {
    return get("caller?verification_id=" + encoded(verificationId)).getAsJsonObject();
  }

  List<String> entries(String requestId) {
    var answer = get("entries?request_id=" + encoded(requestId)).getAsJsonArray();
    return answer.asList().stream().map(JsonElement::getAsString).toList();
  }

  private static String encoded(String text) {
    return URLEncoder.encode(text, StandardCharsets.UTF_8);
  }

  private JsonElement send(HttpRequest request) {
    try {
      var response = http.send(request, BodyHandlers.ofString());
      if (response.statusCode() != 200) {
        throw new IllegalStateException(request.uri() + ": " + response.body());
      }
      return JsonParser.parseString(response.body());
    } catch (IOException error) {
      throw new IllegalStateException(request.uri().toString(), error);
    } catch (InterruptedException interrupt) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException(interrupt);
    }
  }
}
