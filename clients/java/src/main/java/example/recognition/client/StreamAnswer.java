package example.recognition.client;

/**
 * One answer on a stream.
 *
 * @param index which request it answers: its place in what was given, from 0
 * @param outcome what became of it
 */
public record StreamAnswer(long index, Outcome outcome) {}
