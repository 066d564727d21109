/**
 * Checks what a gateway decided, from a file, without asking anybody and without trusting the gateway.
 *
 * <p>{@link example.recognition.evidence.Evidence} is where to begin. Nothing here needs more than Java: neither gRPC
 * nor the client in {@code example.recognition.client}, which fetches the file. It is written apart from the checks in
 * other languages, so that no one program has to be right, and is tested to find the same as the Python one.
 */
package example.recognition.evidence;
