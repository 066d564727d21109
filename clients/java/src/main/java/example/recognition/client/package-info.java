/**
 * Asks a gateway whether what a person presents may be recognised for a matter.
 *
 * <p>{@link example.recognition.client.RecognitionClient} is where to begin. The stubs that the contract is generated
 * into are in {@code example.recognition.v1}.
 */
package example.recognition.client;
